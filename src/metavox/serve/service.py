"""The BentoML service. `metavox serve` runs it from a built bundle or with a model folder."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bentoml

from metavox.errors import UserError
from metavox.serve.app import create_app
from metavox.serve.engine import Engine
from metavox.serve.identity import Canary
from metavox.serve.process import DELTAS, FAILURE, FOLLOW, INBOX, REQUEST_LOG

MODEL_ALIAS = "recogniser"
STORE = Path(".metavox/store")
FOLLOW_S = 1.0  # between looks at the folder of the model
CANARY = "canary"
TIMEOUT_S = 600  # enough for ten minutes of speech on a slow machine

app = create_app()


@bentoml.service(name="metavox", workers=1, traffic={"timeout": TIMEOUT_S}, http={"host": "127.0.0.1"})
@bentoml.asgi_app(app)
class Metavox:
    """One process with one model, perhaps a canary, and the deltas of one store."""

    def __init__(self) -> None:
        try:
            deltas = [Path(folder) for folder in json.loads(os.environ.get(DELTAS) or "[]")]
            store = Path(os.environ.get("METAVOX_STORE") or STORE)
            app.state.log = Path(path) if (path := os.environ.get(REQUEST_LOG)) else None
            app.state.inbox = Path(path) if (path := os.environ.get(INBOX)) else None
            served = _identity(_folder())  # before it is read: it may be replaced meanwhile
            app.state.engine = Engine(model(), store, deltas)
            if os.environ.get(FOLLOW):
                threading.Thread(target=_follow, args=(served, store, deltas), daemon=True).start()
        except Exception as error:
            if report := os.environ.get(FAILURE):
                Path(report).write_text(str(error), encoding="utf-8")
            raise


def _follow(served: int, store: Path, deltas: list[Path]) -> None:
    """Load the model's folder again each time it is replaced, and a canary as it comes and goes.

    Requests that have begun are answered by the old model.
    """
    canary = 0
    while True:
        if (present := _identity(_folder())) not in (served, 0):
            served = present
            with _reported("the model before it stays"):
                app.state.engine = Engine(str(_folder()), store, deltas)
        if (present := _identity(_folder().with_name(CANARY))) != canary:
            canary, app.state.canary = present, None
            with _reported("there is no canary"):
                app.state.canary = _canary(store, deltas) if canary else None
        time.sleep(FOLLOW_S)


def _canary(store: Path, deltas: list[Path]) -> Canary:
    """The candidate in the folder `canary` beside the model's; canary.json says how many requests it answers."""
    folder = _folder().with_name(CANARY)
    share = json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))["share"]
    return Canary(Engine(str(folder), store, deltas), float(share))


@contextmanager
def _reported(consequence: str) -> Iterator[None]:
    try:
        yield
    except (UserError, OSError, ValueError, KeyError) as error:
        print(f"metavox: not served, {consequence}: {error}", file=sys.stderr, flush=True)


def _folder() -> Path:
    return Path(os.environ.get("METAVOX_MODEL") or ".")


def _identity(folder: Path) -> int:
    """Changes when the folder is replaced; 0 while it is not there."""
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


def model() -> str | None:
    """The model inside the running Bento; None if METAVOX_MODEL names another, or if there is no Bento."""
    if os.environ.get("METAVOX_MODEL"):
        return None
    try:
        return str(bentoml.models.get(MODEL_ALIAS).path)
    except bentoml.exceptions.NotFound:
        return None
