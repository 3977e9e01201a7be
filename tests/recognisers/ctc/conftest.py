"""Folders of small models of the real architectures with random weights, written by transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAOINSHRDLUMWCFGYPBVKJXQZ", "'"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": len(LETTERS),
    "pad_token_id": 0,
}
CONVOLUTIONS = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "conv_dim": (8,) * 7}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
# name: (class of transformers, settings, whether clips of different lengths may share a batch)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "wav2vec2-base": ("Wav2Vec2", CONVOLUTIONS, False),
    "xls-r": ("Wav2Vec2", CONVOLUTIONS | STABLE, True),
    "hubert": ("Hubert", CONVOLUTIONS | STABLE, True),
    "wavlm-base": ("WavLM", CONVOLUTIONS, False),
    "wavlm-large": ("WavLM", CONVOLUTIONS | STABLE, True),
    "data2vec": (
        "Data2VecAudio",
        {"conv_pos_kernel_size": 5, "num_conv_pos_embedding_groups": 2, "conv_dim": (8,) * 7},
        False,
    ),
    "w2v-bert": (
        "Wav2Vec2Bert",
        {"feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 5},
        True,
    ),
}
ALL = sorted(ARCHITECTURES)


def make_network(name: str, seed: int = 0, head: bool = True, **more: Any) -> Any:
    """A network of transformers whose weights are large enough for every module to affect the output."""
    import transformers

    kind, settings, _ = ARCHITECTURES[name]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**SMALL | settings | more)
    network = getattr(transformers, f"{kind}ForCTC" if head else f"{kind}Model")(config).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.4)
    return network


def write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def write_about(folder: Path, vocabulary: Any = None, **tokenizer: Any) -> None:
    """Write vocab.json, tokenizer_config.json and preprocessor_config.json next to the weights."""
    write_json(folder / "vocab.json", vocabulary or {token: i for i, token in enumerate(LETTERS)})
    tokenizer_config = {
        "pad_token": "<pad>",
        "word_delimiter_token": "|",
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
    }
    write_json(folder / "tokenizer_config.json", tokenizer_config | tokenizer)
    mels = "input_features" in json.dumps(json.loads((folder / "config.json").read_text())) or (
        json.loads((folder / "config.json").read_text())["model_type"] == "wav2vec2-bert"
    )
    preprocessor = (
        {"feature_size": 80, "num_mel_bins": 80, "stride": 2}
        if mels
        else {"feature_size": 1, "do_normalize": True}
    )
    write_json(folder / "preprocessor_config.json", preprocessor | {"sampling_rate": 16000})


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, *, seed: int = 0, head: bool = True, **more: Any) -> Path:
        folder = tmp_path / f"{name}-{seed}-{head}"
        make_network(name, seed, head, **more).save_pretrained(folder)
        write_about(folder)
        if not head:
            (folder / "vocab.json").unlink()
            (folder / "tokenizer_config.json").unlink()
        return folder

    return make


@pytest.fixture
def mms(tmp_path: Path) -> Path:
    """An MMS folder with two languages, each with its own adapter and alphabet."""
    network = make_network("xls-r", adapter_attn_dim=4)
    folder = tmp_path / "mms"
    network.save_pretrained(folder)
    alphabets = {"eng": "abcdefghij", "ita": "abcdèìòù"}
    vocabularies = {
        code: {t: i for i, t in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *letters])}
        for code, letters in alphabets.items()
    }
    write_about(folder, vocabularies, target_lang="eng")
    for seed, (code, vocabulary) in enumerate(vocabularies.items()):
        torch.manual_seed(seed)
        values = {n: torch.randn_like(p) for n, p in network._get_adapters().items() if "adapter_layer" in n}
        values |= {
            "lm_head.weight": torch.randn(len(vocabulary), 16),
            "lm_head.bias": torch.randn(len(vocabulary)),
        }
        save_file(values, folder / f"adapter.{code}.safetensors")
    return folder


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones and noise whose pitch and level change five times a second, like syllables."""
    random = np.random.default_rng(seed)
    length = int(16000 * seconds)
    pitch = np.repeat(random.uniform(100, 3000, length // 3200 + 1), 3200)[:length]
    level = np.repeat(random.uniform(0.02, 0.2, length // 3200 + 1), 3200)[:length]
    wave = np.sin(2 * np.pi * np.cumsum(pitch) / 16000) + 0.3 * random.normal(size=length)
    return (level * wave).astype(np.float32)
