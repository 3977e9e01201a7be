"""`metavox`: one command line over all parts. What a user can fix is one line, never a traceback."""

import errno
import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from metavox import __version__
from metavox.cli import (
    adapt,
    augment,
    base,
    corpus,
    deltas,
    demo,
    doctor,
    fewshot,
    search,
    transcribe,
)
from metavox.cli.options import OldNames
from metavox.errors import UserError, shortened
from metavox.telemetry import disable_telemetry

FIX, STOPPED = 2, 130  # exit statuses
FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_TEXTS = ("no space left", "disk quota exceeded", "disk is full")
NEARLY_NONE = 1 << 20  # bytes
# Where a path of the user's cannot be used; what else the system refuses is worth a traceback.
PATH_FAULTS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOENT,
)


class Commands(TyperGroup):
    """The commands, and what becomes of their errors."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        if args and args[0] == "serve":  # its module loads torch, which --help should not wait for
            from metavox.cli.serve import serve

            only = typer.Typer(add_completion=False)
            only.command("serve", cls=OldNames)(serve)
            self.add_command(typer.main.get_command(only), "serve")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _end("stopped", STOPPED)
        except UserError as error:
            _end(str(error), FIX)
        except (typer.Exit, typer.Abort):
            raise
        except typer.TyperException as error:
            message = getattr(error, "format_message", lambda: "\n")()
            if "\n" in message.strip("\n") or not message.strip():  # a group without a command shows its help
                raise
            _end(f"{message.rstrip('.')} (see {_called(ctx)} --help)", FIX)
        except Exception as error:
            line = _disk_line(error) or _path_line(error)
            if not line:
                raise
            _end(line, FIX)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A handful of recordings of a new speaker, language or room in, a speech recogniser for it out.",
)


def main() -> None:
    """The console script."""
    disable_telemetry()
    app(prog_name="metavox")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"metavox {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="prepare, validate, augment, pretrain, metatrain, adapt ...")],
    root: Annotated[Path, typer.Option(help="The project's folder.")] = Path(),
    params: Annotated[
        Path | None, typer.Option(help="The project's params.yaml where none is named.")
    ] = None,
) -> None:
    """Run one stage of the pipeline, as dvc.yaml does."""
    from metavox.params import load_params
    from metavox.pipeline.artifacts import NAMES
    from metavox.pipeline.declared import check_declared

    if name not in NAMES:
        raise UserError(f"stage {name}: no such stage; expected one of {', '.join(NAMES)}")
    chosen = load_params(params or root / "params.yaml", complete=True)
    check_declared(name, chosen, root)
    importlib.import_module(f"metavox.stages.{name}").run(chosen, root)


@app.command("serve")
def _serve() -> None:
    """Serve transcription and enrolment over HTTP, as OpenAI's clients call it. Ctrl-C stops it."""
    # For the list of commands only: `Commands` puts the real one in its place.


app.add_typer(corpus.app, name="corpus")
app.add_typer(augment.app, name="augment")
app.add_typer(base.app, name="base")
app.add_typer(deltas.app, name="deltas")
app.command("doctor")(doctor.doctor)
app.command("search")(search.search)
for command in (fewshot.fewshot, adapt.adapt, transcribe.score, transcribe.transcribe, demo.demo):
    app.command(cls=OldNames)(command)


def _end(line: str, status: int) -> NoReturn:
    print(f"metavox: {shortened(' '.join(line.split()))}", file=sys.stderr)
    raise typer.Exit(status)


def _called(ctx: typer.Context) -> str:
    name = ctx.invoked_subcommand
    known = ctx.command.list_commands(ctx) if isinstance(ctx.command, TyperGroup) else []
    return f"metavox {name}" if name in known else "metavox"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _disk_line(error: BaseException) -> str:
    """One line when a full disk is behind `error`, as safetensors, pyarrow, SQLite or the system say it.

    soundfile and torch only say that a write fell short; then a disk without space is proof enough.
    """
    free, place = min(_free(error))
    said = any(
        getattr(e, "errno", None) in FULL or any(text in str(e).lower() for text in FULL_TEXTS)
        for e in _chain(error)
    )
    if not said and free >= NEARLY_NONE:
        return ""
    return (
        f"the disk is full: {free / 1e6:.1f} MB free at {place}; nothing was lost, the unfinished file is "
        "left out; free some space and run the same command again"
    )


def _free(error: BaseException) -> Iterator[tuple[int, str]]:
    """Free bytes where this command may write: what the error names, what it was called with, here, /tmp."""
    named = [str(e.filename) for e in _chain(error) if isinstance(e, OSError) and e.filename]
    for name in (*named, *sys.argv[1:], ".", tempfile.gettempdir()):
        place = Path(name).absolute()
        while not _is_folder(place):
            place = place.parent
        yield shutil.disk_usage(place).free, str(place)


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir() or place == place.parent
    except OSError:  # a name too long for any file
        return False


def _path_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in PATH_FAULTS and error.filename:
        advice = "make it first" if error.errno == errno.ENOENT else "choose another path"
        return f"{error.filename}: {(error.strerror or str(error)).lower()}; {advice}"
    return ""
