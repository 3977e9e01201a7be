"""Loads Whisper's weights from a folder in Hugging Face's form."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from metavox.errors import UserError
from metavox.recognisers.whisper.network import Dimensions, Whisper
from metavox.recognisers.whisper.tokens import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def load_network(folder: Path) -> Whisper:
    """The network in a folder in Hugging Face's form: float32, in evaluation mode, without gradients.

    Raises UserError if it is not a Whisper model, or if weights are missing, truncated, of another shape or
    pickled.
    """
    dimensions = Dimensions.read(folder)
    with torch.device("meta"):
        network = Whisper(dimensions)
    state = {name.removeprefix("model."): value.float() for name, value in _weights(folder).items()}
    state.pop("proj_out.weight", None)  # a copy of the embedding
    expected = network.state_dict()
    wrong = [
        name
        for name in expected.keys() | state.keys()
        if name not in state or name not in expected or state[name].shape != expected[name].shape
    ]
    if wrong:
        raise UserError(
            f"{folder}: {len(wrong)} weights are missing, unknown or of another shape ({sorted(wrong)[0]}); "
            "expected those that its config.json describes; copy the model again"
        )
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    index: dict[str, Any] = read_json(folder / INDEX)
    names = sorted(set(index.get("weight_map", {}).values())) or [WEIGHTS]
    out: dict[str, torch.Tensor] = {}
    for name in names:
        file = folder / Path(name).name
        if not file.is_file():
            pickle = next((p.name for p in folder.glob("*.bin")), None)
            problem = f"only {pickle}, which is pickled and may run code" if pickle else f"no {file.name}"
            raise UserError(
                f"{folder}: {problem}; expected {WEIGHTS}; save the model with safe_serialization=True"
            )
        try:
            out |= load_file(file)
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise UserError(
                f"{file}: not a complete safetensors file ({error}); copy or download it again"
            ) from error
    return out
