"""`metavox base`: list, add, describe and remove base models."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, help="Manage base models, from which adaptation starts: list, add, info, remove."
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A name that `metavox base list` shows, or a folder.")
]
MAX_LISTED_LANGUAGES = 4


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the installed base models and some that can be fetched."""
    from metavox.recognisers.bases.describe import rows
    from metavox.recognisers.bases.store import megabytes, root

    bases = list(rows())
    if as_json:
        _print_json([asdict(row) for row in bases])
        return
    lines = [("name", "kind", "languages", "size", "licence", "installed", "source")] + [
        (
            row.name,
            row.kind,
            _languages(row.languages, row.kind),
            megabytes(row.size_bytes),
            row.licence or "unknown",
            "damaged" if row.problem else "yes" if row.here else "no",
            row.where,
        )
        for row in bases
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    typer.echo(f"added bases are stored in {root()}")


@app.command()
def add(
    what: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="whisper-tiny.en, a hub's ORGANISATION/MODEL[@REVISION], or a folder (in Hugging Face's format, in "
            "CTranslate2's in float16 or float32, or one that metavox made).",
        ),
    ],
    name: Annotated[str, typer.Option(help="The name to store a folder under.")] = "",
    language: Annotated[
        list[str] | None,
        typer.Option(
            help="The language of an adapter to fetch, for models that have one per language (MMS); may be repeated."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch, convert or copy a base model into the store."""
    from metavox.recognisers.bases.files import size_bytes
    from metavox.recognisers.bases.find import add_base
    from metavox.recognisers.bases.store import megabytes

    base = add_base(what, name, language or ())
    if as_json:
        _print_json({**asdict(base.source), "kind": base.kind, "folder": str(base.folder)})
        return
    typer.echo(f"{base.name}: {base.kind}, {megabytes(size_bytes(base.folder))}, in {base.folder}")
    typer.echo(f"to use it: --base {base.name}")


@app.command()
def info(name: Name, as_json: AsJson = False) -> None:
    """Describe a base model, its abilities and its source. It is fetched first if it is not installed."""
    from metavox.cli.console import waiting
    from metavox.recognisers.bases.find import find_base

    base = find_base(name)
    about = waiting(f"loading {base.name}", lambda: _about(base))
    if as_json:
        _print_json(about)
        return
    shown = {
        **about,
        "languages": _languages(tuple(about["languages"]), about["kind"]),
        "presets": ", ".join(about["presets"]),
        "weights": f"{about['weights'] / 1e6:.1f} million",
        "longest_s": f"{about['longest_s']:g} s at a time",
        "short_context": "yes" if about["short_context"] else "no",
        "embedder": "its own" if about["embedder"] else "that of conformer",
        "licence": about["licence"] or "unknown",
    }
    for key, value in shown.items():
        if value not in ("", None):
            typer.echo(f"{key.replace('_', ' '):15} {value}")


@app.command()
def remove(name: Name, as_json: AsJson = False) -> None:
    """Delete a base model from the store."""
    from metavox.recognisers.bases.find import remove_base
    from metavox.recognisers.bases.store import megabytes

    freed = remove_base(name)
    if as_json:
        _print_json({"name": name, "freed_bytes": freed})
    else:
        typer.echo(f"{name}: removed, {megabytes(freed)} freed")


def _about(base: Any) -> dict[str, Any]:
    from metavox.recognisers.bases.describe import languages_of
    from metavox.recognisers.bases.files import count_weights
    from metavox.recognisers.registry import SHORT_CONTEXT

    spec = base.load().spec
    return {
        "name": base.name,
        "kind": spec.kind,
        "languages": list(spec.languages or languages_of(base.folder, base.source)),
        "weights": count_weights(base.folder),
        "sample_rate_hz": spec.sample_rate_hz,
        "longest_s": spec.longest_s,
        "presets": list(spec.presets),
        "short_context": (base.folder / SHORT_CONTEXT).is_dir(),
        "embedder": spec.digest if spec.kind == "conformer" else base.embedder and base.embedder.digest,
        "digest": spec.digest,
        "from": base.source.where,
        "revision": base.source.revision,
        "licence": base.source.licence,
        "folder": str(base.folder),
    }


def _languages(codes: tuple[str, ...], kind: str) -> str:
    if not codes:
        return "any" if kind == "conformer" else "unknown"
    return ", ".join(codes) if len(codes) <= MAX_LISTED_LANGUAGES else f"{len(codes)} languages"


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
