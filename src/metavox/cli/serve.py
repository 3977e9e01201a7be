"""`metavox serve`: transcription and enrolment over HTTP."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from metavox.cli import options
from metavox.errors import UserError
from metavox.recognisers.bases.catalogue import CONFORMER
from metavox.recognisers.bases.find import BUNDLE, bundled, default_embedder, find_base, named
from metavox.serve.process import FOLLOW, INBOX, REQUEST_LOG, bundle_target, model_target, serving
from metavox.serve.store import ReadOnlyDeltas


def serve(
    bundle: Annotated[
        Path | None,
        typer.Option(help=f"A built bundle; by default {BUNDLE}, if there is one and --base is not given."),
    ] = None,
    base: options.Base = None,
    delta: Annotated[
        list[Path],
        typer.Option(
            "--delta", help="A delta to serve under its folder's name, as metavox:NAME; may be repeated."
        ),
    ] = [],  # noqa: B006
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Serve the folder of --base again whenever it is replaced, as a promotion does."
        ),
    ] = False,
    feedback: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            metavar="INBOX",
            help="Take recordings with correct texts (POST /v1/feedback) into it.",
        ),
    ] = None,
    request_log: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, metavar="FILE", help="Add a JSON line for each request, without audio or text."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 accepts connections from other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    store: Annotated[
        Path, typer.Option(envvar="METAVOX_STORE", help="Where enrolled words and speakers are kept.")
    ] = Path(".metavox/store"),
) -> None:
    """Serve transcription and enrolment over HTTP, compatible with OpenAI's clients. Ctrl-C stops it."""
    if bundle and base:
        raise UserError("got both --bundle and --base; expected one of them")
    if follow and not (base and Path(base).is_dir()):
        raise UserError(
            f"--follow: got --base {base or 'nothing'}; expected the folder of a model, such as champion"
        )
    read_only = ReadOnlyDeltas.of(delta)
    implicit = bundle is None and not named(base) and bundled(tell=None) is not None
    if bundle or implicit:
        target = bundle_target(bundle or BUNDLE)
        what = f"{bundle or BUNDLE}" + (
            " (this folder's bundle; --base NAME serves another base)" if implicit else ""
        )
    else:
        model = find_base(base)
        by_name = model.in_store or (model.name == CONFORMER and model.folder == default_embedder().folder)
        what = model.name if by_name else str(model.folder)
        target = model_target(what if by_name else model.folder)
        if follow:
            target.environment[FOLLOW] = "1"
    for name, path in ((INBOX, feedback), (REQUEST_LOG, request_log)):
        if path is not None:
            (path if name == INBOX else path.parent).mkdir(parents=True, exist_ok=True)
            target.environment[name] = str(path.absolute())
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with serving(target, host, port, store, delta) as server:
            with_deltas = f" with {', '.join(read_only.folders)}" if delta else ""
            print(f"metavox serves {what}{with_deltas} at {server.address} (log: {server.log})", flush=True)
            if host not in ("127.0.0.1", "localhost", "::1"):
                print(
                    "metavox: there is no password; anyone who can reach this machine can use the service",
                    file=sys.stderr,
                )
            server.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
