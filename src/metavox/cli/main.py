"""The command line, `metavox`. An error that the user can fix is printed as one line, never as a traceback."""

import _thread
import errno
import importlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from metavox import __version__
from metavox.cli import (
    adapt,
    adapt_each,
    augment,
    bases,
    champion,
    commands,
    compare,
    corpus,
    deltas,
    demo,
    doctor,
    fewshot,
    listen,
    operations,
    search,
    speaker,
    spot,
    subtitle,
    transcribe,
    translate,
    wyoming,
)
from metavox.cli.options import OldNames
from metavox.errors import UserError, shortened
from metavox.telemetry import disable_telemetry

USER_FAULT, INTERRUPTED = 2, 130  # exit statuses
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL_TEXTS = ("no space left", "disk quota exceeded", "disk is full")
MIN_FREE_BYTES = 1 << 20
# Errors about a path of the user's; any other system error is worth a traceback.
PATH_ERRORS = (
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
    """The group of all commands, which turns their errors into exit statuses and one-line messages."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        if args and args[0] == "serve":  # its module imports torch, for which --help should not wait
            from metavox.cli.serve import serve

            loaded = typer.Typer(add_completion=False)
            loaded.command("serve", cls=OldNames)(serve)
            self.add_command(typer.main.get_command(loaded), "serve")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _exit("stopped", INTERRUPTED)
        except UserError as error:
            _exit(str(error), USER_FAULT)
        except (typer.Exit, typer.Abort):
            raise
        except typer.TyperException as error:
            message = getattr(error, "format_message", lambda: "\n")()
            if "\n" in message.strip("\n") or not message.strip():  # the help of a group without a command
                raise
            _exit(f"{message.rstrip('.')} (see {_command_name(ctx)} --help)", USER_FAULT)
        except Exception as error:
            line = _disk_line(error) or _path_line(error)
            if not line:
                raise
            _exit(line, USER_FAULT)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn a handful of recordings of a new speaker, language or room into a speech recogniser for it.",
)


def main() -> None:
    """Run the console script."""
    disable_telemetry()
    sys.unraisablehook = _interrupt_again
    app(prog_name="metavox")


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Ctrl-C would be ignored during a call from C, such as when libsndfile writes; repeat it after the call."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def _version(requested: bool) -> None:
    if requested:
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
    name: Annotated[
        str, typer.Argument(help="A stage of dvc.yaml: prepare, validate, augment, pretrain ...")
    ],
    root: Annotated[Path, typer.Option(help="The project's folder.")] = Path(),
    params: Annotated[
        Path | None, typer.Option(help="The parameters; by default the project's params.yaml.")
    ] = None,
) -> None:
    """Run one stage of the pipeline, as DVC does."""
    from metavox.params import load_params
    from metavox.pipeline.artifacts import DISTRIBUTED, NAMES
    from metavox.pipeline.dependencies import check_dependencies

    if name not in NAMES:
        raise UserError(f"stage {name}: no such stage; expected one of {', '.join(NAMES)}")
    # Of training.distributed this is all that the other stages need, and importing it would make it their dependency.
    processes = os.environ.get("WORLD_SIZE", "1") if "TORCHELASTIC_RUN_ID" in os.environ else "1"
    if name not in DISTRIBUTED and processes != "1":
        raise UserError(
            f"stage {name}: started in {processes} processes, but it runs in one; leave torchrun out, which is for "
            f"{' and '.join(DISTRIBUTED)}"
        )
    values = load_params(params or root / "params.yaml", complete=True)
    check_dependencies(name, values, root)
    importlib.import_module(f"metavox.stages.{name}").run(values, root)


@app.command("serve")
def _serve() -> None:
    """Serve transcription and enrolment over HTTP, compatible with OpenAI's clients. Ctrl-C stops it."""
    # For the list of commands only: `Commands.resolve_command` loads the real one.


app.add_typer(corpus.app, name="corpus")
app.add_typer(augment.app, name="augment")
app.add_typer(bases.app, name="base")
app.add_typer(champion.app, name="champion")
app.add_typer(speaker.app, name="speaker")
app.add_typer(deltas.app, name="deltas")
app.command("doctor")(doctor.doctor)
app.command("search")(search.search)
app.command("compare")(compare.compare)
app.command("operations")(operations.operations)
for command in (
    fewshot.fewshot,
    adapt.adapt,
    adapt_each.adapt_each,
    transcribe.score,
    transcribe.transcribe,
    subtitle.subtitle,
    commands.commands,
    spot.spot,
    listen.listen,
    translate.translate,
    wyoming.wyoming,
    demo.demo,
):
    app.command(cls=OldNames)(command)


def _exit(line: str, status: int) -> NoReturn:
    print(f"metavox: {shortened(' '.join(line.split()))}", file=sys.stderr)
    raise typer.Exit(status)


def _command_name(ctx: typer.Context) -> str:
    name = ctx.invoked_subcommand
    known = ctx.command.list_commands(ctx) if isinstance(ctx.command, TyperGroup) else []
    return f"metavox {name}" if name in known else "metavox"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _disk_line(error: BaseException) -> str:
    """One line if a full disk caused `error`, as reported by safetensors, pyarrow, SQLite or the system; else empty.

    soundfile and torch only report an incomplete write, so for them a disk without space counts as the cause.
    """
    free, folder = min(_free(error))
    reported = any(
        getattr(e, "errno", None) in DISK_FULL or any(text in str(e).lower() for text in DISK_FULL_TEXTS)
        for e in _chain(error)
    )
    if not reported and free >= MIN_FREE_BYTES:
        return ""
    return (
        f"the disk is full: {free / 1e6:.1f} MB free at {folder}; nothing was lost and no partial file remains; "
        "free some space and run the same command again"
    )


def _free(error: BaseException) -> Iterator[tuple[int, str]]:
    """Free bytes wherever this command may write: paths in the error and the arguments, the current folder, /tmp."""
    named = [str(e.filename) for e in _chain(error) if isinstance(e, OSError) and e.filename]
    for name in (*named, *sys.argv[1:], ".", tempfile.gettempdir()):
        folder = Path(name).absolute()
        while not _is_folder(folder):
            folder = folder.parent
        yield shutil.disk_usage(folder).free, str(folder)


def _is_folder(folder: Path) -> bool:
    try:
        return folder.is_dir() or folder == folder.parent
    except OSError:  # for example, a name that is too long
        return False


def _path_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
        advice = "create it first" if error.errno == errno.ENOENT else "choose another path"
        return f"{error.filename}: {(error.strerror or str(error)).lower()}; {advice}"
    return ""
