"""Reads Whisper models in CTranslate2's form, as faster-whisper uses them, and converts them to Hugging
Face's form.

CTranslate2's `model.bin`, version 6, is little-endian: version u32; name of the model kind (length u16,
bytes); revision u32; number of variables u32; for each variable its name (length u16, bytes), rank u8,
dimensions u32 each, type u8, number of bytes u32 and the bytes; then aliases as pairs of names. In attention,
`linear_0` holds queries, keys and values stacked (only queries if the keys come from the encoder, whose
`linear_1` holds keys and values). Keys have no bias in Whisper, and zeros there.
"""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.recognisers.whisper.tokens import ENGLISH_ONLY, Tokens, read_json, read_tokenizer

MODEL, TOKENIZER, CONFIG = "model.bin", "tokenizer.json", "config.json"
WEIGHTS = "model.safetensors"
TYPES = {0: "float32", 1: "int8", 2: "int16", 3: "int32", 4: "float16", 5: "bfloat16"}
DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "<i1", "int16": "<i2", "int32": "<i4"}
FLOATS = ("float16", "float32")
MAX_NAME_BYTES = 1000  # a greater length means a corrupt file
State = dict[str, torch.Tensor]


class _Reader:
    """Reads consecutive numbers and names from bytes; raises struct.error at their end."""

    def __init__(self, data: bytes):
        self.data, self.offset = data, 0

    def number(self, format_code: str) -> int:
        size = struct.calcsize("<" + format_code)
        (value,) = struct.unpack_from("<" + format_code, self.data, self.offset)
        self.offset += size
        return int(value)

    def bytes(self, size: int) -> bytes:
        if self.offset + size > len(self.data):
            raise struct.error(
                f"{size} bytes expected at {self.offset}, but there are {len(self.data)} in all"
            )
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def name(self) -> str:
        size = self.number("H")
        if size > MAX_NAME_BYTES:
            raise struct.error(f"a name of {size} bytes")
        return self.bytes(size).rstrip(b"\0").decode()


def read_variables(file: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The kind of model ("WhisperSpec") and its variables by name.

    Raises UserError for another version, weights that are not floating point, and a truncated file.
    """
    reader = _Reader(file.read_bytes())
    try:
        version = reader.number("I")
        if version != 6:
            raise UserError(
                f"{file}: version {version} of CTranslate2's format, expected 6; convert the model again with a newer CTranslate2"
            )
        kind, _revision = reader.name(), reader.number("I")
        variables = dict(_variable(file, reader) for _ in range(reader.number("I")))
        for alias, name in [(reader.name(), reader.name()) for _ in range(reader.number("I"))]:
            variables[alias] = variables[name]
    except (struct.error, UnicodeDecodeError, KeyError, ValueError) as error:
        raise UserError(
            f"{file}: truncated after {reader.offset} bytes, or not a CTranslate2 model; copy or download it again"
        ) from error
    return kind, variables


def _variable(file: Path, reader: _Reader) -> tuple[str, np.ndarray]:
    name, rank = reader.name(), reader.number("B")
    shape = tuple(reader.number("I") for _ in range(rank))
    kind = TYPES.get(reader.number("B"), "unknown")
    data = reader.bytes(reader.number("I"))
    if name.endswith(("weight", "bias", "gamma", "beta", "encodings")) and kind not in FLOATS:
        raise UserError(
            f"{file}: {name} is {kind}, expected float16 or float32; convert with --quantization float16"
        )
    if kind not in DTYPES:
        raise ValueError(name)
    return name, np.frombuffer(data, DTYPES[kind]).reshape(shape)


def read_whisper(folder: Path) -> tuple[dict[str, Any], State]:
    """The config and the weights of a CTranslate2 folder, both in Hugging Face's form. Raises UserError as
    `read_variables` does.
    """
    file = folder / MODEL
    kind, variables = read_variables(file)
    if kind != "WhisperSpec":
        raise UserError(f"{file}: a {kind}, expected a WhisperSpec; choose a Whisper model")
    try:
        state = _state(variables)
        config = _config(variables, state, _tokens(folder, len(state["model.decoder.embed_tokens.weight"])))
    except KeyError as error:
        raise UserError(
            f"{file}: lacks {error.args[0]}, which Whisper has; convert the model again"
        ) from error
    return config, state


def convert(folder: Path, out: Path) -> Path:
    """Convert a CTranslate2 folder to Hugging Face's form: config, safetensors of the same precision,
    tokenizer.

    The same folder always gives the same bytes. Returns `out`. Raises UserError as `read_variables` does.
    """
    if not (folder / TOKENIZER).is_file():
        raise UserError(
            f"{folder}: no {TOKENIZER}, expected one beside {MODEL}; copy it from the model's page"
        )
    config, state = read_whisper(folder)
    with written_aside(out) as aside:
        aside.mkdir()
        save_file(state, aside / WEIGHTS, {"format": "pt"})
        _write(aside / CONFIG, config)
        _write(aside / "generation_config.json", _generation(folder, config))
        _write(aside / "preprocessor_config.json", _preprocessor(config))
        shutil.copyfile(folder / TOKENIZER, aside / TOKENIZER)
    return out


def _tokens(folder: Path, vocabulary: int) -> Tokens:
    return Tokens.of(read_tokenizer(folder), multilingual=vocabulary != ENGLISH_ONLY)


def _state(variables: dict[str, np.ndarray]) -> State:
    """Weights under Hugging Face's names; the output layer is the embedding and is not stored twice."""

    def take(name: str) -> torch.Tensor:
        return torch.from_numpy(variables[name].copy())

    state: State = {}
    for conv in ("conv1", "conv2"):
        for parameter in ("weight", "bias"):
            state[f"model.encoder.{conv}.{parameter}"] = take(f"encoder/{conv}/{parameter}")
    state["model.decoder.embed_tokens.weight"] = take("decoder/embeddings/weight")
    for side in ("encoder", "decoder"):
        state[f"model.{side}.embed_positions.weight"] = take(f"{side}/position_encodings/encodings")
        _norm(state, take, f"{side}/layer_norm", f"model.{side}.layer_norm")
        for layer in range(_layers(variables, side)):
            _layer(state, take, f"{side}/layer_{layer}", f"model.{side}.layers.{layer}", side == "decoder")
    return state


def _layers(variables: dict[str, np.ndarray], side: str) -> int:
    return len(
        {
            name.split("/")[1]
            for name in variables
            if name.startswith(f"{side}/layer_") and name.count("/") > 2
        }
    )


Take = Callable[[str], torch.Tensor]


def _norm(state: State, take: Take, theirs: str, ours: str) -> None:
    state[f"{ours}.weight"], state[f"{ours}.bias"] = take(f"{theirs}/gamma"), take(f"{theirs}/beta")


def _layer(state: State, take: Take, theirs: str, ours: str, decoder: bool) -> None:
    def linear(source: str, targets: tuple[str, ...]) -> None:
        weights = take(f"{theirs}/{source}/weight").chunk(len(targets))
        biases = take(f"{theirs}/{source}/bias").chunk(len(targets))
        for target, weight, bias in zip(targets, weights, biases, strict=True):
            state[f"{ours}.{target}.weight"] = weight.clone()
            if not target.endswith("k_proj"):
                state[f"{ours}.{target}.bias"] = bias.clone()

    attention = tuple(f"self_attn.{parameter}" for parameter in ("q_proj", "k_proj", "v_proj"))
    linear("self_attention/linear_0", attention)
    linear("self_attention/linear_1", ("self_attn.out_proj",))
    _norm(state, take, f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
    if decoder:
        linear("attention/linear_0", ("encoder_attn.q_proj",))
        linear("attention/linear_1", ("encoder_attn.k_proj", "encoder_attn.v_proj"))
        linear("attention/linear_2", ("encoder_attn.out_proj",))
        _norm(state, take, f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
    linear("ffn/linear_0", ("fc1",))
    linear("ffn/linear_1", ("fc2",))
    _norm(state, take, f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")


def _config(variables: dict[str, np.ndarray], state: State, tokens: Tokens) -> dict[str, Any]:
    vocabulary, dim = state["model.decoder.embed_tokens.weight"].shape
    sides = ("encoder", "decoder")
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": vocabulary,
        "d_model": dim,
        "num_mel_bins": state["model.encoder.conv1.weight"].shape[1],
        "max_source_positions": len(state["model.encoder.embed_positions.weight"]),
        "max_target_positions": len(state["model.decoder.embed_positions.weight"]),
        **{f"{side}_layers": _layers(variables, side) for side in sides},
        "num_hidden_layers": _layers(variables, "encoder"),
        **{f"{side}_attention_heads": int(variables[f"{side}/num_heads"]) for side in sides},
        **{f"{side}_ffn_dim": len(state[f"model.{side}.layers.0.fc1.weight"]) for side in sides},
        "activation_function": "gelu",
        "scale_embedding": bool(variables.get("decoder/scale_embeddings", np.zeros(()))),
        "tie_word_embeddings": True,
        "bos_token_id": tokens.end,
        "eos_token_id": tokens.end,
        "pad_token_id": tokens.end,
        "decoder_start_token_id": tokens.start,
        "torch_dtype": str(state["model.encoder.conv1.weight"].dtype).removeprefix("torch."),
    }


def _generation(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The decoding parameters: special tokens, suppressed tokens, and the alignment heads."""
    tokens = _tokens(folder, config["vocab_size"])
    their_config = read_json(folder / CONFIG)
    out = {
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
        "decoder_start_token_id": config["decoder_start_token_id"],
        "is_multilingual": tokens.multilingual,
        "max_initial_timestamp_index": 50,
        "max_length": config["max_target_positions"],
        "no_timestamps_token_id": tokens.no_timestamps,
        "prev_sot_token_id": tokens.previous,
    }
    names = {
        "suppress_ids": "suppress_tokens",
        "suppress_ids_begin": "begin_suppress_tokens",
        "alignment_heads": "alignment_heads",
    }
    return out | {ours: their_config[theirs] for theirs, ours in names.items() if theirs in their_config}


def _preprocessor(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": config["num_mel_bins"],
        "sampling_rate": 16000,
        "n_fft": 400,
        "hop_length": 160,
        "chunk_length": config["max_source_positions"] * 2 // 100,
        "n_samples": config["max_source_positions"] * 320,
        "nb_max_frames": config["max_source_positions"] * 2,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def _write(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
