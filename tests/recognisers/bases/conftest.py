"""Fixtures: an empty store for each test, small Whisper folders, and a local hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from making import Hub, serving, write_ctranslate2

from metavox.recognisers.bases import hub as hub_module
from metavox.recognisers.whisper.ctranslate2 import convert
from tests.recognisers.ctc.conftest import mms

__all__ = ["mms"]


@pytest.fixture(autouse=True)
def bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, without the settings of this machine."""
    folder = tmp_path / "bases"
    monkeypatch.setenv("METAVOX_BASES", str(folder))
    for name in ("METAVOX_MODEL", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def ctranslate2(tmp_path: Path) -> Path:
    return write_ctranslate2(tmp_path / "faster-tiny")


@pytest.fixture
def whisper(tmp_path: Path, ctranslate2: Path) -> Path:
    """A folder in Hugging Face format."""
    return convert(ctranslate2, tmp_path / "whisper-mini")


@pytest.fixture
def the_hub(whisper: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    (whisper / "pytorch_model.bin").write_bytes(b"a pickle")
    (whisper / "modeling.py").write_text("raise SystemExit")
    with serving(Hub({"someone/whisper-mini": whisper})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(hub_module, "WAIT_S", 0.0)
        yield hub
