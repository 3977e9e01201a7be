"""A small untrained model and recordings of words, shared by all tests here; each test works in its own folder."""

from pathlib import Path

import pytest
import torch
from recordings import record, write_rows

from metavox.adaptation import guards, rehearsal
from metavox.config import EncoderConfig
from metavox.recognisers.conformer.artifact import save_model
from metavox.recognisers.conformer.network import ModelConfig, Network


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # with more, a busy machine takes twenty times as long


@pytest.fixture(autouse=True)
def _little_general_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the fewest general recordings that `adapt` accepts, and the shortest silence and noise, because its guards
    transcribe them up to five times."""
    for name in ("REHEARSED", "HELD_OUT"):
        monkeypatch.setattr(rehearsal, name, rehearsal.MIN_RECORDINGS)
    monkeypatch.setattr(guards, "NOISE_DURATIONS_S", guards.NOISE_DURATIONS_S[:1])


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    small = ModelConfig(encoder=EncoderConfig(channels=8, dim=32, layers=1, heads=2, embedding=32))
    folder = tmp_path_factory.mktemp("model") / "recogniser"
    save_model(Network(small), folder, "# untrained\n")
    return str(folder)


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest: 4 words, 2 speakers, 5 takes in 5 formats."""
    folder = tmp_path_factory.mktemp("words")
    return write_rows(folder / "words.csv", record(folder / "clips"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
