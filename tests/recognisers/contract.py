"""Small random models of every kind of recogniser, and recordings, for the contract tests.

A new kind needs one more entry in `KINDS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.config import EncoderConfig, FeatureConfig
from metavox.recognisers.delta import Delta
from metavox.recognisers.recogniser import Audio, Preset, Recogniser

RATE = 16000
TEXTS = ["rain", "a sun", "we go on"]


def speech(seconds: float, seed: int = 0, pitches: tuple[float, float] = (100, 3000)) -> np.ndarray:
    """Tones and noise whose pitch and level change five times a second, like syllables."""
    random = np.random.default_rng(seed)
    length = round(RATE * seconds)
    pitch = np.repeat(random.uniform(*pitches, length // 3200 + 1), 3200)[:length]
    level = np.repeat(random.uniform(0.02, 0.2, length // 3200 + 1), 3200)[:length]
    wave = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.3 * random.normal(size=length)
    return (level * wave).astype(np.float32)


CLIPS = [speech(0.8, 0, (150, 250)), speech(0.6, 1, (900, 1100)), speech(1.0, 2, (2500, 3000))]


def write_conformer(folder: Path) -> None:
    from metavox.recognisers.conformer.artifact import save_model
    from metavox.recognisers.conformer.network import ModelConfig, Network

    torch.manual_seed(0)
    encoder = EncoderConfig(channels=4, dim=16, layers=1, heads=2, kernel=5, embedding=24)
    network = Network(ModelConfig(FeatureConfig(mels=16), encoder))
    with torch.no_grad():
        network.ctc.weight.mul_(0.3)
    save_model(network.eval(), folder, "card")


def write_ctc(name: str, head: bool = True) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from tests.recognisers.ctc.conftest import make_network, write_about

        make_network(name, head=head).save_pretrained(folder)
        write_about(folder)
        if not head:
            (folder / "vocab.json").unlink()
            (folder / "tokenizer_config.json").unlink()

    return write


def write_whisper(folder: Path) -> None:
    from tests.small_whisper import save_small_whisper

    save_small_whisper(folder)


def whisper_tokens(recogniser: Any, clip: np.ndarray, text: str) -> int:
    counted: int = recogniser._target(text, clip).counted  # tokens of the text, of its times and of its end
    return counted


@dataclass(frozen=True)
class Kind:
    """A kind of recogniser. `write` makes a base model of the kind in a folder.

    `tokens(recogniser, clip, text)` counts the tokens that `loss` averages over. `extensible` says whether
    new characters can be learned, `silent_on_silence` whether digital silence never becomes a word. After
    `few_steps` at the learning rate the loss is lower with every preset, after `many_steps` texts fit their own
    clips best.
    """

    kind: str
    write: Callable[[Path], None]
    tokens: Callable[[Any, np.ndarray, str], int] = lambda recogniser, _, text: len(recogniser.writable(text))
    extensible: bool = True
    silent_on_silence: bool = True
    learning_rate: float = 2e-2
    few_steps: int = 8
    many_steps: int = 30


KINDS = {
    "conformer": Kind("conformer", write_conformer, silent_on_silence=False),
    "ctc": Kind("ctc", write_ctc("xls-r")),
    "ctc, equal lengths in a batch": Kind("ctc", write_ctc("wav2vec2-base")),
    "ctc without a head": Kind("ctc", write_ctc("xls-r", head=False), many_steps=150),
    "whisper": Kind("whisper", write_whisper, whisper_tokens, extensible=False, few_steps=15),
}


def state(recogniser: Recogniser) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in recogniser.network.state_dict().items()}


def is_unchanged(recogniser: Recogniser, before: dict[str, torch.Tensor]) -> bool:
    now = recogniser.network.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in before)


def loss_of(recogniser: Recogniser, audio: Sequence[Audio], texts: Sequence[str]) -> float:
    with torch.no_grad():
        return float(recogniser.loss(audio, texts))


def with_missing_characters(base: Recogniser) -> Recogniser:
    """The base model, extended by the characters that it lacks to write the texts."""
    missing = base.missing_characters(TEXTS)
    return base.with_characters(missing) if missing else base


def random_delta(base: Recogniser, preset: Preset | None = None, seed: int = 1, by: float = 0.1) -> Delta:
    """A random delta that is large enough to change the results."""
    adapter = Adapter(
        base, AdapterConfig(preset or base.spec.presets[0], rank=2), base.missing_characters(TEXTS)
    )
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter.parameters.values():
            weight.add_(by * torch.randn(weight.shape, generator=random))
    return adapter.delta({"seed": seed})


def learned_delta(base: Recogniser, kind: Kind, preset: Preset, steps: int) -> Delta:
    config = FineTuneConfig(preset=preset, learning_rate=kind.learning_rate, steps=steps, batch=3, rank=4)
    return fine_tune(base, Recordings(base.prepare(CLIPS), TEXTS), config)
