"""The BentoML service. `metavox serve` runs it from a built bundle or with a model folder."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import bentoml

from metavox.errors import UserError
from metavox.serve.app import create_app
from metavox.serve.engine import Engine
from metavox.serve.process import DELTAS, FAILURE, FOLLOW

MODEL_ALIAS = "recogniser"
STORE = Path(".metavox/store")
FOLLOW_S = 1.0  # between looks at the folder of the model
TIMEOUT_S = 600  # enough for ten minutes of speech on a slow machine

app = create_app()


@bentoml.service(name="metavox", workers=1, traffic={"timeout": TIMEOUT_S}, http={"host": "127.0.0.1"})
@bentoml.asgi_app(app)
class Metavox:
    """One process with one model and the deltas of one store."""

    def __init__(self) -> None:
        try:
            deltas = [Path(folder) for folder in json.loads(os.environ.get(DELTAS) or "[]")]
            store = Path(os.environ.get("METAVOX_STORE") or STORE)
            served = _identity()  # before it is read: it may be replaced meanwhile
            app.state.engine = Engine(model(), store, deltas)
            if os.environ.get(FOLLOW):
                threading.Thread(target=_follow, args=(served, store, deltas), daemon=True).start()
        except Exception as error:
            if report := os.environ.get(FAILURE):
                Path(report).write_text(str(error), encoding="utf-8")
            raise


def _follow(served: int, store: Path, deltas: list[Path]) -> None:
    """Load the model's folder again each time it is replaced. Requests that have begun are answered by the old model."""
    while True:
        time.sleep(FOLLOW_S)
        if (present := _identity()) in (served, 0):
            continue
        served = present
        try:
            app.state.engine = Engine(os.environ["METAVOX_MODEL"], store, deltas)
        except UserError as error:
            print(f"metavox: not served, the model before it stays: {error}", file=sys.stderr, flush=True)


def _identity() -> int:
    """Changes when the model's folder is replaced; 0 while it is not there."""
    try:
        return Path(os.environ.get("METAVOX_MODEL") or ".").stat().st_ino
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
