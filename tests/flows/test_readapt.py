"""The loop on real recordings, models, git and DVC: a champion is promoted, wrong labels are refused, the way back."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.month import FIRST, Day, new_project, write_batch
from flows.readapt import readapt, use_of
from metavox.files import content_digest
from metavox.promotion import versions
from metavox.promotion.policy import LearnPolicy

pytestmark = pytest.mark.usefixtures("server")


def test_good_recordings_are_promoted_and_wrong_labels_refused(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    good = write_batch(tmp_path / "good", Day("first", FIRST), take=0)
    first = readapt(str(good), base="conformer", project=str(project))
    assert (first["outcome"], first["version"], first["added"]) == ("promote", "v0.1.0", 60)
    now = versions.champion(project)
    assert now is not None
    assert now.record["model"] == content_digest(project / "champion")
    decided = pd.read_csv(project / "field.csv")
    assert set(decided["decision"]) == {"accepted"}
    taught = set(decided.loc[decided["use"] == "train", "sha256"])
    assert set(now.record["recordings"]) == taught, "recordings that judge teach nothing"

    wrong = write_batch(tmp_path / "wrong", Day("wrong", FIRST, labels="wrong"), take=20)
    second = readapt(str(wrong), base="conformer", project=str(project))
    assert second["outcome"] == "refuse"
    assert "check the labels" in second["why"]
    assert content_digest(project / "champion") == now.record["model"]
    decided = pd.read_csv(project / "field.csv")
    assert decided["decision"].value_counts().to_dict() == {"accepted": 60, "refused": 60}
    status = subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True)
    assert status.stdout == ""

    again = readapt(str(wrong), base="conformer", project=str(project))
    assert (again["outcome"], again["added"], again["known"]) == ("wait", 0, 60)
    assert json.loads((project / "record.json").read_text())["version"] == "v0.1.0"


def test_a_recording_always_has_the_same_use() -> None:
    digests = pd.Series([f"{i:064x}" for i in range(1000)])
    use = use_of(digests, LearnPolicy(held_out=0.3))
    assert use == use_of(digests, LearnPolicy(held_out=0.3))
    assert 250 < use.count("judge") < 350
