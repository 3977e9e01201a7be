"""`metavox wyoming`: speech-to-text and wake words for Home Assistant."""

import sys
from typing import Annotated

import typer

from metavox.cli.options import Base, Deltas, Language
from metavox.errors import UserError


def wyoming(
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    threshold: Annotated[
        float | None, typer.Option(help="The least score of a wake word; by default the vocabulary's own.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 accepts connections from other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 10300,
) -> None:
    """Serve the Wyoming protocol: speech-to-text, and the words of a vocabulary as wake words. Ctrl-C stops it."""
    import asyncio
    from dataclasses import replace

    from metavox.cli.sessions import opened, with_deltas
    from metavox.recognisers.delta import load_delta
    from metavox.serve.wyoming import serve

    deltas = [load_delta(folder) for folder in delta]
    session = with_deltas(opened(base, language, deltas=deltas), delta, deltas)
    session = replace(session, options=replace(session.options, word_times=False))

    async def ready() -> None:
        words = f" and the wake words {', '.join(session.words)}" if session.words else ""
        print(f"metavox serves {session.recogniser.spec.name}{words} at tcp://{host}:{port}", flush=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            print(
                "metavox: there is no password; anyone who can reach this machine can use it", file=sys.stderr
            )

    try:
        asyncio.run(serve(session, host, port, threshold, ready))
    except OSError as error:
        raise UserError(f"{host}:{port}: {error.strerror or error}; choose another --port") from error
