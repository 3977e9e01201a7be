"""Whisper's network (Radford et al. 2022, section 2.2), with the weight names of Hugging Face.

It does not use transformers, so that the encoder takes any context up to its own, the decoder keeps its keys
and values in one place, and a view with an adapter costs nothing. Tests compare it with transformers'
outputs.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from metavox.errors import UserError
from metavox.recognisers.whisper.tokens import read_json

CONFIG = "config.json"
CPU = torch.device("cpu")
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
}
KeyValue = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, each (batch, heads, time, head width)."""


@dataclass(frozen=True)
class Dimensions:
    """The dimensions of the network, under the names of Hugging Face's config.json."""

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
        """Read `config.json`. Raises UserError if it does not describe a Whisper model."""
        file = folder / CONFIG
        config = read_json(file)
        if config.get("model_type") != "whisper":
            raise UserError(
                f"{file}: model_type {config.get('model_type')!r}, expected 'whisper'; choose a Whisper model"
            )
        values = {f.name: config[f.name] for f in fields(cls) if f.name in config}
        try:
            dimensions = cls(**values)
        except TypeError as error:
            raise UserError(f"{file}: {error}; copy the model's own config.json") from error
        if dimensions.activation_function not in ACTIVATIONS:
            raise UserError(
                f"{file}: activation_function {dimensions.activation_function!r}, expected one of {', '.join(ACTIVATIONS)}"
            )
        return dimensions


class Attention(nn.Module):
    """Multi-head attention without a bias for keys."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj, self.out_proj = (nn.Linear(dim, dim) for _ in range(3))
        self.k_proj = nn.Linear(dim, dim, bias=False)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, x: torch.Tensor) -> KeyValue:
        """Keys and values of states (batch, time, dim)."""
        return self._split(self.k_proj(x)), self._split(self.v_proj(x))

    def queries(self, x: torch.Tensor) -> torch.Tensor:
        return self._split(self.q_proj(x))

    def forward(self, x: torch.Tensor, attended: KeyValue, mask: torch.Tensor | None = None) -> torch.Tensor:
        """x (batch, time, dim) -> (batch, time, dim); `mask` (time, time attended) is true where attention is
        allowed.
        """
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
        normed = self.self_attn_layer_norm(x)
        return x + self.self_attn(normed, self.self_attn.keys_values(normed))

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
        self, x: torch.Tensor, attention: KeyValue, mask: torch.Tensor | None, cache: "LayerCache | None"
    ) -> torch.Tensor:
        normed = self.self_attn_layer_norm(x)
        attended = self.self_attn.keys_values(normed)
        if cache is not None:
            attended = cache.append(attended)
        x = x + self.self_attn(normed, attended, mask)
        return self.transform(x + self.encoder_attn(self.encoder_attn_layer_norm(x), attention))


class Encoder(nn.Module):
    def __init__(self, dimensions: Dimensions):
        super().__init__()
        dim = dimensions.d_model
        self.conv1 = nn.Conv1d(dimensions.num_mel_bins, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(dimensions.max_source_positions, dim)
        shape = (
            dim,
            dimensions.encoder_attention_heads,
            dimensions.encoder_ffn_dim,
            dimensions.activation_function,
        )
        self.layers = nn.ModuleList(EncoderLayer(*shape) for _ in range(dimensions.encoder_layers))
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """Log-mels (batch, bands, frames) -> states (batch, frames / 2, dim), for any number of frames."""
        return self.layer_norm(self.hidden(mels))  # type: ignore[no-any-return]

    def hidden(self, mels: torch.Tensor, layers: int | None = None) -> torch.Tensor:
        """As `forward`, before the last normalisation, or after the first `layers` layers."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mels)))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        for layer in self.layers[:layers]:
            x = layer(x)
        return x


@dataclass
class LayerCache:
    """A layer's keys and values of the tokens decoded so far, with room for more."""

    keys: torch.Tensor
    values: torch.Tensor
    length: int = 0

    def append(self, new: KeyValue) -> KeyValue:
        """Append new keys and values, and return all."""
        end = self.length + new[0].shape[2]
        self.keys[:, :, self.length : end], self.values[:, :, self.length : end] = new
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep(self, rows: torch.Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


@dataclass
class CrossAttention:
    """What the decoder attends to: each layer's keys and values of the encoder's states and of the tokens so
    far.
    """

    encoded: list[KeyValue]
    cache: list[LayerCache] = field(default_factory=list)

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only some rows of the batch."""
        self.encoded = [(keys[rows], values[rows]) for keys, values in self.encoded]
        for layer in self.cache:
            layer.keep(rows)

    def repeated(self, times: int) -> "CrossAttention":
        """Repeat each clip `times` times, for as many texts."""
        return CrossAttention(
            [(k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self.encoded]
        )


class Decoder(nn.Module):
    def __init__(self, dimensions: Dimensions):
        super().__init__()
        dim = dimensions.d_model
        self.scale = dim**0.5 if dimensions.scale_embedding else 1.0
        self.embed_tokens = nn.Embedding(dimensions.vocab_size, dim)
        self.embed_positions = nn.Embedding(dimensions.max_target_positions, dim)
        shape = (
            dim,
            dimensions.decoder_attention_heads,
            dimensions.decoder_ffn_dim,
            dimensions.activation_function,
        )
        self.layers = nn.ModuleList(DecoderLayer(*shape) for _ in range(dimensions.decoder_layers))
        self.layer_norm = nn.LayerNorm(dim)

    def cross_attention(self, states: torch.Tensor, room: int = 0) -> CrossAttention:
        """Keys and values of the encoder's states (batch, time, dim), computed once; `room` is the number of
        tokens to cache.
        """
        attention = CrossAttention([layer.encoder_attn.keys_values(states) for layer in self.layers])  # type: ignore[union-attr, operator]
        if room:
            batch, heads, _, width = attention.encoded[0][0].shape
            attention.cache = [
                LayerCache(*attention.encoded[0][0].new_empty(2, batch, heads, room, width))
                for _ in self.layers
            ]
        return attention

    def forward(self, ids: torch.Tensor, attention: CrossAttention) -> torch.Tensor:
        """States (batch, tokens, dim) after each of `ids` (batch, tokens), which continue what `attention`
        has cached.
        """
        offset = attention.cache[0].length if attention.cache else 0
        x = self.embed_tokens(ids) * self.scale
        x = x + self.embed_positions.weight[offset : offset + ids.shape[1]]
        mask = None
        if ids.shape[1] > 1:
            mask = torch.ones(ids.shape[1], offset + ids.shape[1], dtype=torch.bool, device=ids.device).tril(
                offset
            )
        for index, layer in enumerate(self.layers):
            x = layer(x, attention.encoded[index], mask, attention.cache[index] if attention.cache else None)
        return self.layer_norm(x)  # type: ignore[no-any-return]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (..., vocabulary); the output layer is the token embedding."""
        return F.linear(states, self.embed_tokens.weight)


class Whisper(nn.Module):
    """Log-mels (batch, bands, frames) and ids (batch, tokens) -> logits (batch, tokens, vocabulary)."""

    def __init__(self, dimensions: Dimensions):
        super().__init__()
        self.dimensions = dimensions
        self.encoder, self.decoder = Encoder(dimensions), Decoder(dimensions)

    def forward(self, mels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        decoder = self.decoder
        return decoder.logits(decoder(ids, decoder.cross_attention(self.encoder(mels))))


def half_precision(device: torch.device = CPU) -> AbstractContextManager[None]:
    """A context with matrix products in bfloat16 on GPUs and on processors with instructions for it, else in
    float32.
    """
    return torch.autocast(
        device.type, torch.bfloat16, enabled=device.type == "cuda" or _multiplies_bfloat16()
    )


def _multiplies_bfloat16() -> bool:
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
