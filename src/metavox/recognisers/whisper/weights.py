"""Loads Whisper's weights from a folder in Hugging Face's form."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from metavox.errors import UserError
from metavox.recognisers.whisper.network import Dimensions, Encoder, Whisper
from metavox.recognisers.whisper.tokens import read_json

N = TypeVar("N", bound=nn.Module)
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
    return _with_weights(network, state, folder)


def load_encoder(folder: Path, layers: int) -> Encoder:
    """The first `layers` layers of the encoder in a folder, as `load_network` loads it; the weights are float32.

    Raises UserError as `load_network` does, and if the encoder has fewer layers.
    """
    dimensions = Dimensions.read(folder)
    if layers > dimensions.encoder_layers:
        raise UserError(
            f"{folder}: its encoder has {dimensions.encoder_layers} layers, fewer than {layers}; set encoder.layers to "
            f"{dimensions.encoder_layers} or less"
        )
    with torch.device("meta"):
        encoder = Encoder(replace(dimensions, encoder_layers=layers))
    wanted = encoder.state_dict().keys()
    state = {
        own: value.float()
        for name, value in _weights(folder).items()
        if (own := name.removeprefix("model.").removeprefix("encoder.")) in wanted and "decoder." not in name
    }
    return _with_weights(encoder, state, folder)


def _with_weights(network: N, state: dict[str, torch.Tensor], folder: Path) -> N:
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
