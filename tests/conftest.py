"""Small models and small prepared speech, for every folder of tests."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

# As many processes as cores run at once, and what they start: threads would wait for each other.
os.environ.setdefault("METAVOX_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", os.environ["METAVOX_THREADS"])

import numpy as np
import pandas as pd
import pytest
import torch
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from metavox.audio.perturb import Perturb
from metavox.config import EncoderConfig, FeatureConfig
from metavox.dataset.manifest import COLUMNS
from metavox.dataset.store import ABOUT, FEATURES, MANIFEST, Store
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.recognition.speech import SpeechWindow
from tests.scheduling import LoadByFixture, longest_first

MELS = 16


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    return LoadByFixture(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: longest_first(item.nodeid))


@pytest.fixture
def make_model() -> Callable[..., Network]:
    """A recogniser of about ten thousand weights in evaluation mode, with random running statistics."""

    def make(
        seed: int = 0,
        alphabet: str = " 'abcdefghijklmnopqrstuvwxyz",
        layers: int = 1,
        position_features: int = 0,
    ) -> Network:
        torch.manual_seed(seed)
        encoder = EncoderConfig(
            channels=4,
            dim=16,
            layers=layers,
            heads=2,
            kernel=5,
            embedding=24,
            position_features=position_features,
        )
        model = Network(ModelConfig(FeatureConfig(mels=MELS), encoder, alphabet))
        for part in model.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.02, 0.2)
        return model.eval()

    return make


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Store]:
    """Prepared speech: a fixed spectrogram per word, a fixed spectral offset per speaker, and some noise.

    Twelve clips of each word in `words`, and `sentences` utterances of two words with their text.
    """

    def make(words: tuple[str, ...] = ("ab", "cd", "ef", "gh"), sentences: int = 12, seed: int = 0) -> Store:
        random = np.random.default_rng(seed)
        spectrograms = {word: random.normal(0, 2, (24, MELS)) for word in words}
        offsets = [random.normal(0, 0.5, MELS) for _ in range(3)]
        rows, mels = [], []

        def add(text: tuple[str, ...], speaker: int, unit: str) -> None:
            clean = np.concatenate([spectrograms[word] for word in text])
            clean = clean[: len(clean) - random.integers(3)] + offsets[speaker] - 6.0
            mels.append((clean + random.normal(0, 0.2, clean.shape)).astype("<f2"))
            rows.append(
                {"text": " ".join(text), "speaker": f"speaker-{speaker}", "unit": unit, "language": "xx"}
            )

        for number in range(12):
            for word in words:
                add((word,), number % 3, "word")
        for number in range(sentences):
            add(tuple(random.choice(words, 2)), number % 3, "sentence")
        frames = np.array([len(item) for item in mels])
        table = pd.DataFrame(rows).assign(frames=frames, first_frame=frames.cumsum() - frames)
        table = table.assign(path=[f"{number}.wav" for number in range(len(table))], duration_s=frames / 100)
        table = pd.DataFrame({**COLUMNS, **table})
        folder = tmp_path / f"store-{seed}"
        folder.mkdir()
        (folder / FEATURES).write_bytes(np.concatenate(mels).tobytes())
        (folder / ABOUT).write_text(json.dumps(asdict(FeatureConfig(mels=MELS))))
        table.assign(split="train").to_parquet(folder / MANIFEST, index=False)
        return Store(folder)

    return make


class Unchanged:
    """A perturbation that leaves everything as it is."""

    def scaled(self, strength: float) -> "Unchanged":
        return self

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator, /
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return mels, lengths


@pytest.fixture
def unchanged() -> Perturb:
    return Unchanged()


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors gain nothing from threads, and with one the order of sums never changes."""
    torch.set_num_threads(1)


@pytest.fixture
def coarse_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw charts with a ninth of the pixels for tests that read a page, because compressing them takes half of the time."""
    from metavox.reports import charts

    monkeypatch.setattr(charts, "DPI", charts.DPI // 3)


@pytest.fixture
def every_sound_is_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """For sessions of untrained networks on noise and tones, which are no speech."""

    def whole(samples: np.ndarray, rate: int) -> SpeechWindow:
        return SpeechWindow(samples, 0.0, ((0.0, len(samples) / rate),))

    for user in ("metavox.session", "metavox.recognition.long"):
        monkeypatch.setattr(f"{user}.spoken_part", whole)
