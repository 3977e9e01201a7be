"""The BentoML service. `metavox serve` runs it from a built bundle, or over a plain model folder."""

import os
from pathlib import Path

import bentoml

from metavox.recognisers.conformer.artifact import find_model
from metavox.serve.app import create_app
from metavox.serve.engine import Engine
from metavox.serve.process import FAILURE

MODEL_ALIAS = "recogniser"
STORE = Path(".metavox/store")
TIMEOUT_S = 600  # ten minutes of speech on a slow machine

app = create_app()


@bentoml.service(name="metavox", workers=1, traffic={"timeout": TIMEOUT_S}, http={"host": "127.0.0.1"})
@bentoml.asgi_app(app)
class Metavox:
    """One process, one model, the deltas of one store."""

    def __init__(self) -> None:
        try:
            app.state.engine = Engine(model_folder(), Path(os.environ.get("METAVOX_STORE") or STORE))
        except Exception as error:
            if place := os.environ.get(FAILURE):
                Path(place).write_text(str(error), encoding="utf-8")
            raise


def model_folder() -> Path:
    """METAVOX_MODEL where it is set, the model inside the Bento that runs, or the one `find_model` finds."""
    if not os.environ.get("METAVOX_MODEL"):
        try:
            return Path(bentoml.models.get(MODEL_ALIAS).path)
        except bentoml.exceptions.NotFound:
            pass
    return find_model()
