"""The BentoML service. `metavox serve` runs it from a built bundle or with a model folder."""

import json
import os
from pathlib import Path

import bentoml

from metavox.serve.app import create_app
from metavox.serve.engine import Engine
from metavox.serve.process import DELTAS, FAILURE

MODEL_ALIAS = "recogniser"
STORE = Path(".metavox/store")
TIMEOUT_S = 600  # enough for ten minutes of speech on a slow machine

app = create_app()


@bentoml.service(name="metavox", workers=1, traffic={"timeout": TIMEOUT_S}, http={"host": "127.0.0.1"})
@bentoml.asgi_app(app)
class Metavox:
    """One process with one model and the deltas of one store."""

    def __init__(self) -> None:
        try:
            deltas = [Path(folder) for folder in json.loads(os.environ.get(DELTAS) or "[]")]
            app.state.engine = Engine(model(), Path(os.environ.get("METAVOX_STORE") or STORE), deltas)
        except Exception as error:
            if report := os.environ.get(FAILURE):
                Path(report).write_text(str(error), encoding="utf-8")
            raise


def model() -> str | None:
    """The model inside the running Bento; None if METAVOX_MODEL names another, or if there is no Bento."""
    if os.environ.get("METAVOX_MODEL"):
        return None
    try:
        return str(bentoml.models.get(MODEL_ALIAS).path)
    except bentoml.exceptions.NotFound:
        return None
