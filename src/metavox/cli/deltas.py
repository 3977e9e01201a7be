"""`metavox deltas`: what was taught, in a store's folder or on a running server."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metavox.cli.console import table
from metavox.cli.options import output

if TYPE_CHECKING:
    from metavox.serve.backends import Place

app = typer.Typer(
    no_args_is_help=True,
    help="What was taught, in a store or on a running server: list, show, push, pull, remove.",
)
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="METAVOX_STORE", file_okay=False, help="The folder of a store.")
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", help="A running server, as http://127.0.0.1:3000, instead of --store."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `metavox deltas list` shows it.")]
STORE = Path(".metavox/store")


@app.command("list")
def list_(store: StoreOption = STORE, server: ServerOption = None, as_json: AsJson = False) -> None:
    """The deltas that there are."""
    found = _place(store, server).list()
    if as_json:
        _print_json(found)
        return
    heads = ("name", "kind", "base", "holds", "size", "created", "expected")
    lines = [
        (
            one["id"],
            one["object"],
            _base(one),
            _sections(one["sections"]),
            _kilobytes(one),
            _date(one),
            _expected(one),
        )
        for one in found
    ]
    table(f"{len(found)} deltas at {server or store}", heads, lines)


@app.command()
def show(
    name: Name, store: StoreOption = STORE, server: ServerOption = None, as_json: AsJson = False
) -> None:
    """What a delta holds, was made of and promises."""
    one = _place(store, server).show(name)
    if as_json:
        _print_json(one)
        return
    shown = {
        "name": one["id"],
        "kind": one["object"],
        "base": f"{one['base_name']} {one['base']}".strip(),
        "holds": _sections(one["sections"]),
        "words": ", ".join(one.get("words", ())),
        "size": _kilobytes(one),
        "recordings": str(one["files"]),
        "created": _date(one),
        "expected": _expected(one),
        "for this base": "" if "usable" not in one else "yes" if one["usable"] else "no",
        "read only": "yes, the server was started with it" if one["read_only"] else "",
    }
    for key, value in shown.items():
        if value:
            typer.echo(f"{key:14} {value}")
    for line in (one.get("guards") or {}).get("lines", ()):
        typer.echo(line)


@app.command()
def push(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", file_okay=False, help="That `metavox adapt` made.")
    ],
    name: Annotated[str, typer.Option(help="What it is to be called; without it as the folder is.")] = "",
    store: StoreOption = STORE,
    server: ServerOption = None,
    as_json: AsJson = False,
) -> None:
    """Bring a delta there; one of the same name and kind is replaced."""
    one = _place(store, server).push(name or folder.resolve().name, folder)
    if as_json:
        _print_json(one)
        return
    typer.echo(f"{one['id']}: a {one['object']}, {_kilobytes(one)}, at {server or store}")
    typer.echo(f"to use it: model=metavox:{one['id']} in a request to the server")


@app.command()
def pull(
    name: Name,
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder to put it in.", callback=output)],
    store: StoreOption = STORE,
    server: ServerOption = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a delta into a folder, as `metavox adapt` makes them."""
    from metavox.serve.backends import keep

    keep(_place(store, server).pull(name), out)
    if as_json:
        _print_json({"id": name, "folder": str(out)})
    else:
        typer.echo(f"{out}: {name}; to use it: --delta {out}")


@app.command()
def remove(
    name: Name, store: StoreOption = STORE, server: ServerOption = None, as_json: AsJson = False
) -> None:
    """Delete a delta there."""
    _place(store, server).remove(name)
    if as_json:
        _print_json({"id": name, "deleted": True})
    else:
        typer.echo(f"{name}: removed from {server or store}")


def _place(store: Path, server: str | None) -> "Place":
    from metavox.serve.backends import LocalPlace, ServerPlace

    return ServerPlace(server) if server else LocalPlace(store)


def _sections(sections: dict[str, Any]) -> str:
    parts = []
    if lora := sections.get("lora"):
        parts.append(f"LoRA of rank {lora['rank']}, alpha {lora['alpha']:g}, on {lora['targets']} weights")
    if weights := sections.get("weights"):
        parts.append(f"{weights['changed']} weights")
    if rows := sections.get("output_rows"):
        parts.append(f"{len(rows['characters'])} new characters")
    if words := sections.get("vocabulary"):
        parts.append(f"{words['words']} words")
    return ", ".join(parts) or "nothing: the base does better"


def _expected(one: Any) -> str:
    """What cross-validation promises, in short."""
    from metavox.intervals import Interval

    expected = one["expected"] or {}
    if "accuracy" in expected:
        return "{:.0f}% right ({:.0f} to {:.0f})".format(
            *(100 * expected["accuracy"][k] for k in ("mean", "low", "high"))
        )
    if "wer" in expected:
        unit = "characters" if expected.get("without_spaces") else "words"
        before, after = (100 * Interval.of(expected[name]).mean for name in ("wer_before", "wer"))
        return f"{after:.1f}% of {unit} wrong, {before:.1f}% without"
    return ""


def _base(one: Any) -> str:
    return f"{one['base_name']} {one['base'][:12]}".strip()


def _kilobytes(one: Any) -> str:
    return f"{one['bytes'] / 1000:.1f} kB"


def _date(one: Any) -> str:
    return datetime.fromtimestamp(one["created"], UTC).strftime("%Y-%m-%d %H:%M UTC")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
