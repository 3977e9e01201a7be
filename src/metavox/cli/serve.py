"""`metavox serve`."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from metavox.errors import UserError
from metavox.recognisers.conformer.artifact import find_model
from metavox.serve.process import bundle_target, model_target, serving

BUNDLE = Path("artifacts/bundle/metavox.bento")


def serve(
    bundle: Annotated[Path | None, typer.Option(help=f"A built bundle; {BUNDLE} where there is one.")] = None,
    model: Annotated[Path | None, typer.Option(help="A model folder, instead of a bundle.")] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets others in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
    store: Annotated[
        Path, typer.Option(envvar="METAVOX_STORE", help="Where enrolled words and voices are kept.")
    ] = Path(".metavox/store"),
) -> None:
    """Serve transcription and enrolment over HTTP, as OpenAI's clients call it. Ctrl-C stops it."""
    if bundle and model:
        raise UserError("--bundle and --model were both given; expected one of them")
    if not model and (bundle or BUNDLE.is_file()):
        what = bundle or BUNDLE
        target = bundle_target(what)
    else:
        what = find_model(str(model) if model else None)
        target = model_target(what)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with serving(target, host, port, store) as server:
            print(f"metavox serves {what} at {server.address} (its log: {server.log})", flush=True)
            if host not in ("127.0.0.1", "localhost", "::1"):
                print("metavox: there is no password; all who reach this machine can use it", file=sys.stderr)
            server.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
