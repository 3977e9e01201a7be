"""One service for all tests here, with a small model that distinguishes tones, and clips to send to it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from clips_to_send import RATE, Clip, encoded, tone

from metavox.audio.features import LogMel, extract
from metavox.audio.trim import word_in
from metavox.config import EncoderConfig
from metavox.enrolment.prototypes import VIEWS
from metavox.recognisers.conformer.artifact import save_model
from metavox.recognisers.conformer.network import ModelConfig, Network, pad
from metavox.serve.client import running_service


@pytest.fixture
def clip() -> Clip:
    return lambda hz=300.0, seconds=0.6, seed=0, kind="wav": encoded(tone(hz, seconds, seed), kind)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    small = ModelConfig(encoder=EncoderConfig(channels=8, dim=32, layers=1, heads=2, embedding=32))
    folder = tmp_path_factory.mktemp("model") / "recogniser"
    save_model(_trained_on_tones(Network(small)), folder, "# tones\n")
    return folder


def _trained_on_tones(model: Network) -> Network:
    """Train the model for a few seconds, so that its embedding distinguishes tones (and noise)."""
    pitches = [*np.geomspace(120, 3000, 12), 0.0]
    transform = LogMel(model.config.features)
    # Enrolment trims clips in the same way.
    clips = [word_in(tone(hz, seed=i), RATE)[0] for i in range(2) for hz in pitches]
    mels = [extract(clip, transform).clone() for clip in clips]
    labels = torch.arange(len(pitches)).repeat(2)
    head = torch.nn.Linear(model.config.embedding, len(pitches), bias=False)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], 3e-3)
    batch, lengths = pad(mels)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more, a busy machine takes twenty times as long
    random = torch.Generator().manual_seed(0)
    for step in range(160):
        optimizer.zero_grad()
        inputs = VIEWS(batch, lengths, random) if step % 2 else (batch, lengths)  # as in enrolment
        torch.nn.functional.cross_entropy(16 * head(model.embed(*inputs)), labels).backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return model.eval()


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def address(
    model_folder: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        with running_service(model_folder, store_folder) as url:
            yield url


@pytest.fixture(scope="session")
def web(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        yield client
