"""Whisper's network (Radford et al. 2022, section 2.2), with the names of Hugging Face's weights.

Written out instead of taken from transformers, so that the encoder hears any context up to its own, the decoder keeps
its keys and values in one place, and a view of it with an adapter costs nothing. Tests hold it to transformers' outputs.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from metavox.errors import UserError
from metavox.recognisers.whisper.tokens import read_json

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
CPU = torch.device("cpu")
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
}
KeyValue = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, each (batch, heads, time, width of a head)."""


@dataclass(frozen=True)
class Dimensions:
    """Under the names of Hugging Face's config.json."""

    vocab_size: int
    d_model: int
    num_mel_bins: int
    max_source_positions: int
    max_target_positions: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    activation_function: str = "gelu"
    scale_embedding: bool = False

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From `config.json`. Raises UserError on what is no Whisper."""
        file = folder / CONFIG
        config = read_json(file)
        if config.get("model_type") != "whisper":
            raise UserError(
                f"{file}: model_type {config.get('model_type')!r}, expected 'whisper'; give a Whisper model"
            )
        given = {f.name: config[f.name] for f in fields(cls) if f.name in config}
        try:
            dimensions = cls(**given)
        except TypeError as error:
            raise UserError(f"{file}: {error}; copy the model's own config.json") from error
        if dimensions.activation_function not in ACTIVATIONS:
            raise UserError(
                f"{file}: activation_function {dimensions.activation_function!r}, expected one of {', '.join(ACTIVATIONS)}"
            )
        return dimensions


class Attention(nn.Module):
    """Multi-head attention; keys have no bias."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(3))
        self.k_proj = nn.Linear(dim, dim, bias=False)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, x: torch.Tensor) -> KeyValue:
        """Of states (batch, time, dim)."""
        return self._split(self.k_proj(x)), self._split(self.v_proj(x))

    def queries(self, x: torch.Tensor) -> torch.Tensor:
        return self._split(self.q_proj(x))

    def forward(self, x: torch.Tensor, attended: KeyValue, mask: torch.Tensor | None = None) -> torch.Tensor:
        """x: (batch, time, dim); `mask` (time, time attended) is true where a state may look."""
        out = F.scaled_dot_product_attention(self.queries(x), *attended, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int, ffn: int, activation: str):
        super().__init__()
        self.activation = activation
        self.self_attn = Attention(dim, heads)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, ffn), nn.Linear(ffn, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.self_attn_layer_norm(x)
        return x + self.self_attn(seen, self.self_attn.keys_values(seen))

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(ACTIVATIONS[self.activation](self.fc1(self.final_layer_norm(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.transform(self.attend(x))


class DecoderLayer(EncoderLayer):
    def __init__(self, dim: int, heads: int, ffn: int, activation: str):
        super().__init__(dim, heads, ffn, activation)
        self.encoder_attn = Attention(dim, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(dim)

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, attention: KeyValue, mask: torch.Tensor | None, past: "LayerPast | None"
    ) -> torch.Tensor:
        seen = self.self_attn_layer_norm(x)
        attended = self.self_attn.keys_values(seen)
        if past is not None:
            attended = past.append(attended)
        x = x + self.self_attn(seen, attended, mask)
        return self.transform(x + self.encoder_attn(self.encoder_attn_layer_norm(x), attention))


class Encoder(nn.Module):
    def __init__(self, of: Dimensions):
        super().__init__()
        dim = of.d_model
        self.conv1 = nn.Conv1d(of.num_mel_bins, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(of.max_source_positions, dim)
        shape = (dim, of.encoder_attention_heads, of.encoder_ffn_dim, of.activation_function)
        self.layers = nn.ModuleList(EncoderLayer(*shape) for _ in range(of.encoder_layers))
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """States (batch, frames / 2, dim) of log-mels (batch, bands, frames): as many frames as there are."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mels)))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x)  # type: ignore[no-any-return]


@dataclass
class LayerPast:
    """Keys and values of what one layer has decoded so far, with room for more."""

    keys: torch.Tensor
    values: torch.Tensor
    length: int = 0

    def append(self, new: KeyValue) -> KeyValue:
        """All there are, the new ones too."""
        end = self.length + new[0].shape[2]
        self.keys[:, :, self.length : end], self.values[:, :, self.length : end] = new
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep(self, rows: torch.Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


@dataclass
class CrossAttention:
    """What the decoder looks at: each layer's keys and values of the encoder's states, and of what it wrote so far."""

    encoded: list[KeyValue]
    past: list[LayerPast] = field(default_factory=list)

    def keep(self, rows: torch.Tensor) -> None:
        """Only some rows of the batch go on."""
        self.encoded = [(keys[rows], values[rows]) for keys, values in self.encoded]
        for layer in self.past:
            layer.keep(rows)

    def repeated(self, times: int) -> "CrossAttention":
        """Each clip `times` times, for as many texts."""
        return CrossAttention(
            [(k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self.encoded]
        )


class Decoder(nn.Module):
    def __init__(self, of: Dimensions):
        super().__init__()
        dim = of.d_model
        self.scale = dim**0.5 if of.scale_embedding else 1.0
        self.embed_tokens = nn.Embedding(of.vocab_size, dim)
        self.embed_positions = nn.Embedding(of.max_target_positions, dim)
        shape = (dim, of.decoder_attention_heads, of.decoder_ffn_dim, of.activation_function)
        self.layers = nn.ModuleList(DecoderLayer(*shape) for _ in range(of.decoder_layers))
        self.layer_norm = nn.LayerNorm(dim)

    def cross_attention(self, states: torch.Tensor, room: int = 0) -> CrossAttention:
        """Keys and values of the encoder's states (batch, time, dim), computed once; `room` for tokens to be cached."""
        attention = CrossAttention([layer.encoder_attn.keys_values(states) for layer in self.layers])  # type: ignore[union-attr, operator]
        if room:
            batch, heads, _, width = attention.encoded[0][0].shape
            attention.past = [
                LayerPast(*attention.encoded[0][0].new_empty(2, batch, heads, room, width))
                for _ in self.layers
            ]
        return attention

    def forward(self, ids: torch.Tensor, attention: CrossAttention) -> torch.Tensor:
        """States (batch, tokens, dim) after each of `ids` (batch, tokens), which follow what `attention` holds already."""
        first = attention.past[0].length if attention.past else 0
        x = self.embed_tokens(ids) * self.scale
        x = x + self.embed_positions.weight[first : first + ids.shape[1]]
        mask = None
        if ids.shape[1] > 1:
            mask = torch.ones(ids.shape[1], first + ids.shape[1], dtype=torch.bool, device=ids.device).tril(
                first
            )
        for number, layer in enumerate(self.layers):
            x = layer(x, attention.encoded[number], mask, attention.past[number] if attention.past else None)
        return self.layer_norm(x)  # type: ignore[no-any-return]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """(..., vocabulary): the output layer is the embedding of tokens."""
        return F.linear(states, self.embed_tokens.weight)


class Whisper(nn.Module):
    """mels (batch, bands, frames) and ids (batch, tokens) to logits (batch, tokens, vocabulary)."""

    def __init__(self, dimensions: Dimensions):
        super().__init__()
        self.dimensions = dimensions
        self.encoder, self.decoder = Encoder(dimensions), Decoder(dimensions)

    def forward(self, mels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        decoder = self.decoder
        return decoder.logits(decoder(ids, decoder.cross_attention(self.encoder(mels))))


def half_precision(device: torch.device = CPU) -> AbstractContextManager[None]:
    """Matrix products in bfloat16 on a GPU and on a processor that has instructions for them, float32 elsewhere."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=device.type == "cuda" or _multiplies_bfloat16()
    )


def _multiplies_bfloat16() -> bool:
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def load_network(folder: Path) -> Whisper:
    """The network in a folder of Hugging Face's form, float32, in evaluation mode, wanting no gradients.

    Raises UserError on what is no Whisper, on weights that are missing, cut short, of another shape, or pickled.
    """
    dimensions = Dimensions.read(folder)
    with torch.device("meta"):
        network = Whisper(dimensions)
    state = {name.removeprefix("model."): value.float() for name, value in _weights(folder).items()}
    state.pop("proj_out.weight", None)  # the embedding once more
    wanted = network.state_dict()
    wrong = [
        name
        for name in wanted.keys() | state.keys()
        if name not in state or name not in wanted or state[name].shape != wanted[name].shape
    ]
    if wrong:
        raise UserError(
            f"{folder}: {len(wrong)} weights are missing, unknown or of another shape ({sorted(wrong)[0]}); "
            "expected those of its config.json; copy the model again"
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
            pickled = next((p.name for p in folder.glob("*.bin")), None)
            found = f"only {pickled}, which is pickled and may run code" if pickled else f"no {file.name}"
            raise UserError(
                f"{folder}: {found}; expected {WEIGHTS}; save the model with safe_serialization=True"
            )
        try:
            out |= load_file(file)
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise UserError(
                f"{file}: not a whole safetensors file ({error}); copy or download it again"
            ) from error
    return out
