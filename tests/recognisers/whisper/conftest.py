"""Small Whisper models with random weights, in folders in Hugging Face format."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import WhisperConfig, WhisperForConditionalGeneration

from metavox.recognisers import registry
from metavox.recognisers.bases import store
from metavox.recognisers.whisper.recogniser import WhisperRecogniser

LANGUAGES = ("en", "it", "de")
TIMES = 1501
MakeFolder = Callable[..., Path]


def small_tokenizer() -> Tokenizer:
    """A byte-level tokenizer with Whisper's special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *LANGUAGES]
    names += ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    return tokenizer


def small_model(vocabulary: int, mels: int = 80, seed: int = 0) -> WhisperForConditionalGeneration:
    """Two encoder and two decoder layers, with embeddings large enough for the decoded tokens to vary."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=mels,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=40,
        bos_token_id=256,
        eos_token_id=256,
        pad_token_id=256,
        decoder_start_token_id=257,
    )
    model = WhisperForConditionalGeneration(config).eval()
    for name, weight in model.named_parameters():
        if name != "model.encoder.embed_positions.weight":
            weight.data.normal_(0, 0.3 if weight.ndim == 1 else 1.0 / weight[0].numel() ** 0.5)
    model.model.decoder.embed_tokens.weight.data.mul_(3.0)
    return model


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Makes a folder in Hugging Face format."""

    def make(
        multilingual: bool = False, mels: int = 80, seed: int = 0, name: str = "small", **saving: object
    ) -> Path:
        folder = tmp_path / name
        tokenizer = small_tokenizer()
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        small_model(size + TIMES, mels, seed).save_pretrained(folder, **saving)
        tokenizer.save(str(folder / "tokenizer.json"))
        about = {
            "is_multilingual": multilingual,
            "decoder_start_token_id": 257,
            "eos_token_id": 256,
            "pad_token_id": 256,
            "suppress_tokens": [1, 2, 257],
            "begin_suppress_tokens": [220, 256],
        }
        (folder / "generation_config.json").write_text(json.dumps(about))
        return folder

    return make


@pytest.fixture
def make_recogniser(make_folder: MakeFolder) -> Callable[..., WhisperRecogniser]:
    def make(**arguments: object) -> WhisperRecogniser:
        recogniser = registry.load(make_folder(**arguments))
        assert isinstance(recogniser, WhisperRecogniser)
        return recogniser

    return make


@pytest.fixture
def clips() -> list[np.ndarray]:
    """Noises of different colours, 1 to 4 seconds long."""
    random = np.random.default_rng(0)
    return [
        (np.convolve(random.normal(size=round(16000 * s)), np.hanning(5 + 4 * i), "same") * 0.1).astype(
            np.float32
        )
        for i, s in enumerate((1.0, 2.3, 3.1, 4.0))
    ]


@pytest.fixture(scope="session")
def tiny_en() -> WhisperRecogniser:
    """The real whisper-tiny.en, if the machine's store has it."""
    folder = store.place("whisper-tiny.en")
    if not (folder / "model.safetensors").is_file():
        pytest.skip(
            "whisper-tiny.en is not in this machine's store; `metavox base add whisper-tiny.en` fetches it"
        )
    recogniser = registry.load(folder)
    assert isinstance(recogniser, WhisperRecogniser)
    return recogniser
