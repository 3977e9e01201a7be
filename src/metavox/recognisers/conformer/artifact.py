"""A model on disk: `model.safetensors`, `config.json`, `card.md`. Pickles are never loaded."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.recognisers.conformer.encoders import attach
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.recognisers.registry import BASE, kind_of

PROFILE = "data_profile.json"  # profile of the training data, for `metavox corpus drift`


def save_model(model: Network, folder: Path, card: str) -> None:
    """Write the three files into `folder` atomically."""
    with written_aside(folder) as aside:
        write_model(model, aside, card)


def write_model(model: Network, folder: Path, card: str) -> None:
    """Write the three files into `folder` itself, which may be part of a larger artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    config = json.dumps(model.config.as_dict(), indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    (folder / "card.md").write_text(card, encoding="utf-8")


def load_model(folder: Path | str) -> Network:
    """Read a model folder, in evaluation mode. Raises UserError if it is incomplete or not a conformer."""
    folder = Path(folder)
    try:
        config = ModelConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        weights = {_current(name): value for name, value in load_file(folder / "model.safetensors").items()}
        model = Network(config)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{folder}: not a complete model ({error}); expected model.safetensors and config.json"
        ) from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"{folder}: model.safetensors does not match config.json ({reason[:200]}); copy both from one model"
        ) from error
    if config.encoder.kind == "whisper":
        attach(model.encoder, _base_of(folder))
    return model.eval()


def _base_of(folder: Path) -> Path:
    """The folder of the foundation base that a network was trained on: beside its files, or around them in a base's own
    folder. Raises UserError if there is none."""
    places = (folder / BASE, folder.parent, folder.parent.parent / BASE)
    for place in places:
        if (place / "config.json").is_file() and kind_of(place) == "whisper":
            return place
    raise UserError(
        f"{folder}: its encoder is that of a Whisper base, and there is none in {places[0]} or {places[1]}; expected both "
        "where the pipeline or `metavox base add` put them"
    )


def _current(name: str) -> str:
    """The current name of a tensor: the cohort used to be called `background`."""
    return name.replace("background.", "cohort.", 1) if name.startswith("background.") else name


def digest(folder: Path | str) -> str:
    """sha256 over the configuration and the weights: what a delta names as its base."""
    folder = Path(folder)
    total = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        total.update((folder / name).read_bytes())
    return total.hexdigest()
