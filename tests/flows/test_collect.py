"""The collect flow: a real inbox, a real DVC project, `metavox corpus add` and the stages after it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from small_project import Project

from flows.collect import collect, split_at_dashes
from metavox.errors import UserError

OPTIONS = ["--layout", "folders", "--name", "site", "--speaker", "me", "--language", "en"]


@pytest.fixture
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder per label with two clips that pass the quality gate, and a broken file."""
    root, random = tmp_path_factory.mktemp("inbox"), np.random.default_rng(0)
    for label in ("yes", "no"):
        (root / label).mkdir()
        for take in range(2):
            noise = random.normal(0, 0.2, 16000) * np.repeat([0.01, 1, 0.3, 0.01], 4000)
            soundfile.write(root / label / f"{take}.wav", noise, 16000)
    (root / "no/broken.wav").write_bytes(b"RIFF nothing")
    return root


@pytest.fixture
def collecting(project: Project, server: str) -> Project:
    """A project whose stage reads data/manifest.csv alone."""
    (project.folder / "data").unlink()
    project.write(count={"cmd": "wc -l < data/manifest.csv > lines", "deps": ["data"], "outs": ["lines"]})
    return project


def test_new_recordings_are_added_and_stages_run_once(
    collecting: Project, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(collecting.folder)
    first = collect(str(inbox), options=OPTIONS, project=str(collecting.folder))
    assert (first["take"], first["have"], first["refuse"]) == (4, 0, 1)
    assert first["stages"] == {"count": "ran"}
    assert (collecting.folder / "lines").read_text().strip() == "5"
    rows = pd.read_csv(collecting.folder / "data/manifest.csv")
    assert sorted(rows["text"]) == ["no", "no", "yes", "yes"]
    assert set(rows["source"]) == {"site"}
    second = collect(str(inbox), options=OPTIONS, project=str(collecting.folder))
    assert (second["take"], second["have"], second["refuse"]) == (0, 4, 1)
    assert second["stages"] == {"count": "up to date"}
    assert collecting.runs() == ["count"]


def test_a_refused_recording_is_reported(collecting: Project, inbox: Path) -> None:
    collect(str(inbox), options=OPTIONS, project=str(collecting.folder), stop_after="")
    report = json.loads((collecting.folder / ".metavox/collect/added.json").read_text())
    (refused,) = report["refuse"]
    assert refused["path"].endswith("broken.wav")
    assert refused["reasons"]
    assert collecting.runs() == []


def test_a_missing_inbox_is_a_one_line_error(collecting: Project, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        collect(str(tmp_path / "nowhere"), project=str(collecting.folder))


def test_a_killed_run_is_made_up_for_by_the_next(collecting: Project, inbox: Path) -> None:
    collect(str(inbox), options=OPTIONS, project=str(collecting.folder), stop_after="")  # as if killed here
    again = collect(str(inbox), options=OPTIONS, project=str(collecting.folder))
    assert (again["take"], again["stages"]) == (0, {"count": "ran"})


def test_options_after_dashes_are_those_of_corpus_add() -> None:
    arguments = ["in", "--stop-after", "validate", "--", "--layout", "folders"]
    assert split_at_dashes(arguments) == (["in", "--stop-after", "validate"], ["--layout", "folders"])
    assert split_at_dashes(["in"]) == (["in"], [])
