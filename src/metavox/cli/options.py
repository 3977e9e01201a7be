"""Arguments and options that several commands share, and the old names of some."""

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
        help="A table with the columns path,text,speaker,language, or a folder whose names say what is said.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|HUB|FOLDER",
        help="The base model: a name of `metavox base list`, one of a hub, a folder. "
        "Without it the base of this folder's bundle, artifacts/bundle, if there is one, else whisper-tiny.en.",
    ),
]
Embedder = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER",
        help="The network that tells words apart. Without it the one in this folder's bundle, artifacts/bundle, if there "
        "is one, else conformer, which comes with metavox.",
    ),
]
Language = Annotated[
    str, typer.Option(metavar="CODE", help="What is spoken (ISO 639, as en or it). Without it: detected.")
]
Context = Annotated[
    Literal["auto", "full"],
    typer.Option(help="How much a foundation model hears at once: what the clip needs, or all it can."),
]
Deltas = Annotated[
    list[Path], typer.Option("--delta", help="A folder that `metavox adapt` made; may be repeated.")
]


def output(path: Path | None) -> Path | None:
    """The callback of an option that names what to write: told before the work where that cannot be."""
    if path is not None:
        check_output(path)
    return path


Json = Annotated[
    Path | None, typer.Option("--json", dir_okay=False, callback=output, help="Write the figures here.")
]

OLD_NAMES = {
    "--model": "--base",
    "--part": "--preset",
    "--pull": "--l2-sp-weight",
    "--voice": "--speaker",
    "--voices": "--speakers",
}
# Values of options that have another name today.
OLD_VALUES = {
    "--preset": {"lowrank": "lora"},
    "--pairing": PAIRINGS,
    "--by": {"voice": "speaker", "person": "speaker_group"},
}


class OldNames(TyperCommand):
    """A command whose options are still understood by the names that they had."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in parameter.opts}
        return super().parse_args(ctx, list(_renamed(args, known)))


def _renamed(args: list[str], known: set[str]) -> list[str]:
    """`args` with today's names for old ones that are not `known` any more; says so in a line each."""
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
    """Today's name of an option's value; says so in a line."""
    new = OLD_VALUES[option][value]
    print(f"metavox: {option} {value} is called {new} now", file=sys.stderr)
    return new
