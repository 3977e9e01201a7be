"""`metavox deltas`: manage the deltas of a store's folder or of a running server."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metavox.cli.console import table
from metavox.cli.options import output

if TYPE_CHECKING:
    from metavox.serve.backends import Backend

app = typer.Typer(
    no_args_is_help=True,
    help="Manage the deltas of a store or of a running server: list, show, push, pull, remove.",
)
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="METAVOX_STORE", file_okay=False, help="The folder of a store.")
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", help="A running server, such as http://127.0.0.1:3000, instead of --store."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A name that `metavox deltas list` shows.")]
STORE = Path(".metavox/store")


@app.command("list")
def list_(store: StoreOption = STORE, server: ServerOption = None, as_json: AsJson = False) -> None:
    """List the deltas."""
    deltas = _backend(store, server).list()
    if as_json:
        _print_json(deltas)
        return
    heads = ("name", "kind", "base", "holds", "size", "created", "expected")
    lines = [
        (
            delta["id"],
            delta["object"],
            _base(delta),
            _sections(delta["sections"]),
            _kilobytes(delta),
            _date(delta),
            _expected(delta),
        )
        for delta in deltas
    ]
    table(f"{len(deltas)} deltas at {server or store}", heads, lines)


@app.command()
def show(
    name: Name, store: StoreOption = STORE, server: ServerOption = None, as_json: AsJson = False
) -> None:
    """Show what a delta holds, what it was learned from and how well it is expected to do."""
    delta = _backend(store, server).show(name)
    if as_json:
        _print_json(delta)
        return
    shown = {
        "name": delta["id"],
        "kind": delta["object"],
        "base": f"{delta['base_name']} {delta['base']}".strip(),
        "holds": _sections(delta["sections"]),
        "words": ", ".join(delta.get("words", ())),
        "size": _kilobytes(delta),
        "recordings": str(delta["files"]),
        "created": _date(delta),
        "expected": _expected(delta),
        "for this base": "" if "usable" not in delta else "yes" if delta["usable"] else "no",
        "read-only": "yes, the server was started with it" if delta["read_only"] else "",
    }
    for key, value in shown.items():
        if value:
            typer.echo(f"{key:14} {value}")
    for line in (delta.get("guards") or {}).get("lines", ()):
        typer.echo(line)


@app.command()
def push(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", file_okay=False, help="A folder that `metavox adapt` made.")
    ],
    name: Annotated[str, typer.Option(help="The delta's name; by default the folder's.")] = "",
    store: StoreOption = STORE,
    server: ServerOption = None,
    as_json: AsJson = False,
) -> None:
    """Add a delta, replacing one of the same name and kind."""
    delta = _backend(store, server).push(name or folder.resolve().name, folder)
    if as_json:
        _print_json(delta)
        return
    typer.echo(f"{delta['id']}: a {delta['object']}, {_kilobytes(delta)}, at {server or store}")
    typer.echo(f"to use it: model=metavox:{delta['id']} in a request to the server")


@app.command()
def pull(
    name: Name,
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder to write.", callback=output)],
    store: StoreOption = STORE,
    server: ServerOption = None,
    as_json: AsJson = False,
) -> None:
    """Copy a delta into a folder, as `metavox adapt` writes it."""
    from metavox.serve.backends import write_delta_files

    write_delta_files(_backend(store, server).pull(name), out)
    if as_json:
        _print_json({"id": name, "folder": str(out)})
    else:
        typer.echo(f"{out}: {name}; to use it: --delta {out}")


@app.command()
def remove(
    name: Name, store: StoreOption = STORE, server: ServerOption = None, as_json: AsJson = False
) -> None:
    """Delete a delta."""
    _backend(store, server).remove(name)
    if as_json:
        _print_json({"id": name, "deleted": True})
    else:
        typer.echo(f"{name}: removed from {server or store}")


def _backend(store: Path, server: str | None) -> "Backend":
    from metavox.serve.backends import LocalBackend, ServerBackend

    return ServerBackend(server) if server else LocalBackend(store)


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
    return ", ".join(parts) or "nothing, because the base does better"


def _expected(delta: Any) -> str:
    """The result that cross-validation predicts, in short."""
    from metavox.intervals import Interval

    expected = delta["expected"] or {}
    if "accuracy" in expected:
        return "{:.0f}% right ({:.0f} to {:.0f})".format(
            *(100 * expected["accuracy"][k] for k in ("mean", "low", "high"))
        )
    if "wer" in expected:
        unit = "characters" if expected.get("without_spaces") else "words"
        before, after = (100 * Interval.of(expected[name]).mean for name in ("wer_before", "wer"))
        return f"{after:.1f}% of {unit} wrong, {before:.1f}% without"
    return ""


def _base(delta: Any) -> str:
    return f"{delta['base_name']} {delta['base'][:12]}".strip()


def _kilobytes(delta: Any) -> str:
    return f"{delta['bytes'] / 1000:.1f} kB"


def _date(delta: Any) -> str:
    return datetime.fromtimestamp(delta["created"], UTC).strftime("%Y-%m-%d %H:%M UTC")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
