"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Manifest = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A CSV: path,text,voice,language.")]
Model = Annotated[
    str | None, typer.Option(help="A model folder; without it the base model that comes with metavox.")
]
Deltas = Annotated[
    list[Path], typer.Option("--delta", help="A folder that `metavox adapt` made; may be repeated.")
]
Json = Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Write the figures here.")]
