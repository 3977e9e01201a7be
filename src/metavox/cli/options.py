"""Arguments and options that several commands share, and old names of options."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from metavox.files import check_output
from metavox.old_names import PAIRINGS

Manifest = Annotated[
    Path,
    typer.Argument(
        metavar="MANIFEST",
        help="A table with the columns path,text,speaker,language, or a folder whose file and folder names give the texts.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|HUB|FOLDER",
        help="The base model: a name from `metavox base list`, a model on a hub, or a folder. "
        "By default the base in this folder's bundle, artifacts/bundle, if there is one, else whisper-tiny.en.",
    ),
]
Embedder = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER",
        help="The network that distinguishes words. By default the one in this folder's bundle, artifacts/bundle, if there "
        "is one, else conformer, which comes with metavox.",
    ),
]
Language = Annotated[
    str,
    typer.Option(
        metavar="CODE", help="The spoken language (ISO 639, such as en or it); by default detected."
    ),
]
Context = Annotated[
    Literal["auto", "full"],
    typer.Option(
        help="How much a foundation model encodes at a time: what the clip needs, or its full context."
    ),
]
Deltas = Annotated[
    list[Path], typer.Option("--delta", help="A folder that `metavox adapt` made; may be repeated.")
]


def output(path: Path | None) -> Path | None:
    """Callback of an option that names an output. Raises UserError, before any work is done, if it cannot be written."""
    if path is not None:
        check_output(path)
    return path


Json = Annotated[
    Path | None,
    typer.Option("--json", dir_okay=False, callback=output, help="Write the results to this file."),
]

OLD_NAMES = {
    "--model": "--base",
    "--part": "--preset",
    "--pull": "--l2-sp-weight",
    "--voice": "--speaker",
    "--voices": "--speakers",
}
# Renamed values of options.
OLD_VALUES = {
    "--preset": {"lowrank": "lora"},
    "--pairing": PAIRINGS,
    "--by": {"voice": "speaker", "person": "speaker_group"},
}


class OldNames(TyperCommand):
    """A command that still accepts its options under their old names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in parameter.opts}
        return super().parse_args(ctx, list(_renamed(args, known)))


def _renamed(args: list[str], known: set[str]) -> list[str]:
    """Replace old names in `args` that are not among the `known` ones, and print a line for each."""
    out: list[str] = []
    for argument in args:
        name, equals, value = argument.partition("=")
        if name in OLD_NAMES and name not in known and OLD_NAMES[name] in known:
            print(f"metavox: {name} is called {OLD_NAMES[name]} now", file=sys.stderr)
            name = OLD_NAMES[name]
            argument = name + equals + value
        if equals and value in OLD_VALUES.get(name, {}):
            argument = f"{name}={_current(name, value)}"
        elif out and argument in OLD_VALUES.get(out[-1], {}):
            argument = _current(out[-1], argument)
        out.append(argument)
    return out


def _current(option: str, value: str) -> str:
    """The current name of an option's value; prints a line about it."""
    new = OLD_VALUES[option][value]
    print(f"metavox: {option} {value} is called {new} now", file=sys.stderr)
    return new
