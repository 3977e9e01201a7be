"""Conversion of CTranslate2 folders to Hugging Face format."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from metavox.errors import UserError
from metavox.recognisers.whisper.ctranslate2 import convert
from metavox.recognisers.whisper.tokens import Tokens
from metavox.recognisers.whisper.weights import load_network
from tests.recognisers.whisper.conftest import MakeFolder

TYPES = {np.dtype("float32"): 0, np.dtype("int8"): 1, np.dtype("int16"): 2, np.dtype("float16"): 4}
MakeBoth = Callable[..., Path]


def _name(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def write_model(
    file: Path, variables: dict[str, np.ndarray], kind: str = "WhisperSpec", version: int = 6
) -> None:
    """Write `model.bin` in the format of CTranslate2."""
    out = struct.pack("<I", version) + _name(kind) + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        shape = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += _name(name) + shape + struct.pack("<BI", TYPES[value.dtype], value.nbytes) + value.tobytes()
    out += struct.pack("<I", 1) + _name("decoder/projection/weight") + _name("decoder/embeddings/weight")
    file.write_bytes(out)


def ctranslate2_weights(state: dict[str, torch.Tensor], dtype: str) -> dict[str, np.ndarray]:
    """Hugging Face weights under the names of CTranslate2, with projections stacked in its way."""
    out: dict[str, np.ndarray] = {}

    def put(name: str, *parts: torch.Tensor) -> None:
        out[name] = torch.cat(parts).numpy().astype(dtype)

    def linear(name: str, source: str, *parts: str) -> None:
        weights = [state[f"{source}.{part}.weight"] for part in parts]
        biases = [
            state.get(f"{source}.{p}.bias", torch.zeros(len(w))) for p, w in zip(parts, weights, strict=True)
        ]
        put(f"{name}/weight", *weights)
        put(f"{name}/bias", *biases)

    def norm(name: str, source: str) -> None:
        put(f"{name}/gamma", state[f"{source}.weight"])
        put(f"{name}/beta", state[f"{source}.bias"])

    for conv in ("conv1", "conv2"):
        linear(f"encoder/{conv}", "model.encoder", conv)
    put("decoder/embeddings/weight", state["model.decoder.embed_tokens.weight"])
    for side in ("encoder", "decoder"):
        put(f"{side}/position_encodings/encodings", state[f"model.{side}.embed_positions.weight"])
        out[f"{side}/num_heads"] = np.array(2, np.int16)
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for layer in range(2):
            ours, name = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
            linear(f"{name}/self_attention/linear_0", f"{ours}.self_attn", "q_proj", "k_proj", "v_proj")
            linear(f"{name}/self_attention/linear_1", f"{ours}.self_attn", "out_proj")
            norm(f"{name}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            if side == "decoder":
                linear(f"{name}/attention/linear_0", f"{ours}.encoder_attn", "q_proj")
                linear(f"{name}/attention/linear_1", f"{ours}.encoder_attn", "k_proj", "v_proj")
                linear(f"{name}/attention/linear_2", f"{ours}.encoder_attn", "out_proj")
                norm(f"{name}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
            linear(f"{name}/ffn/linear_0", ours, "fc1")
            linear(f"{name}/ffn/linear_1", ours, "fc2")
            norm(f"{name}/ffn/layer_norm", f"{ours}.final_layer_norm")
    return out


@pytest.fixture
def make_both(make_folder: MakeFolder, tmp_path: Path) -> MakeBoth:
    """Makes two folders of the same model, in Hugging Face and in CTranslate2 format."""

    def make(dtype: str = "float32", kind: str = "WhisperSpec", version: int = 6) -> tuple[Path, Path]:
        source, folder = make_folder(), tmp_path / "ctranslate2"
        folder.mkdir()
        variables = ctranslate2_weights(
            load_file(source / "model.safetensors"), "float32" if dtype == "int8" else dtype
        )
        if dtype == "int8":
            name = "encoder/layer_0/ffn/linear_0/weight"
            variables[name] = variables[name].astype(np.int8)
        write_model(folder / "model.bin", variables, kind, version)
        (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
        about = {"suppress_ids": [1, 2], "suppress_ids_begin": [220], "alignment_heads": [[1, 0]]}
        (folder / "config.json").write_text(json.dumps(about))
        return source, folder

    return make  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_conversion_keeps_the_network(make_both: MakeBoth, tmp_path: Path, dtype: str) -> None:
    source, folder = make_both(dtype)
    out = convert(folder, tmp_path / "out")
    ours, original = load_network(out), load_network(source)
    assert ours.dimensions == original.dimensions
    for name, weight in original.state_dict().items():
        expected = weight.to(getattr(torch, dtype)).float()
        torch.testing.assert_close(ours.state_dict()[name], expected, atol=0, rtol=0)
    assert load_file(out / "model.safetensors")["model.decoder.layer_norm.bias"].dtype == getattr(
        torch, dtype
    )
    generation = json.loads((out / "generation_config.json").read_text())
    assert (generation["suppress_tokens"], generation["alignment_heads"]) == ([1, 2], [[1, 0]])
    assert Tokens.read(out).languages  # the vocabulary is not that of an English-only model


def test_conversion_is_deterministic(make_both: MakeBoth, tmp_path: Path) -> None:
    _, folder = make_both()
    first, second = convert(folder, tmp_path / "one"), convert(folder, tmp_path / "other")
    assert {f.name: f.read_bytes() for f in first.iterdir()} == {
        f.name: f.read_bytes() for f in second.iterdir()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "is int8, expected float16 or float32"),
        ({"kind": "TransformerSpec"}, "a TransformerSpec"),
        ({"version": 5}, "version 5"),
    ],
)
def test_unsupported_models_are_rejected(
    make_both: MakeBoth, tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    _, folder = make_both(**arguments)
    with pytest.raises(UserError, match=message):
        convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.999])
def test_truncated_files_are_rejected(make_both: MakeBoth, tmp_path: Path, share: float) -> None:
    _, folder = make_both()
    data = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match="copy or download it again") as caught:
        convert(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_is_rejected(make_both: MakeBoth, tmp_path: Path) -> None:
    _, folder = make_both()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        convert(folder, tmp_path / "out")
