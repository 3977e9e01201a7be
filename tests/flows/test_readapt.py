"""The loop on real recordings, models, git and DVC: a champion is promoted, wrong labels are refused, the way back."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from small_project import Project

from benchmarks.month import FIRST, NEW, Day, new_project, write_batch
from flows.field import use_of
from flows.readapt import readapt
from metavox.files import content_digest
from metavox.promotion import canary, history, versions
from metavox.promotion.policy import LearnPolicy
from metavox.recognisers.bases.find import find_base

pytestmark = pytest.mark.usefixtures("server")


def test_the_loop_promotes_refuses_tries_and_retrains(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    good = write_batch(tmp_path / "good", Day("first", FIRST), take=0)
    first = readapt(str(good), base="conformer", project=str(project))
    assert (first["outcome"], first["version"], first["added"]) == ("promote", "v0.1.0", 60)
    now = versions.champion(project)
    assert now is not None
    assert now.record["model"] == content_digest(project / "champion")
    decided = pd.read_csv(project / "field.csv")
    assert set(decided["decision"]) == {"accepted"}
    assert set(now.record["recordings"]) == taught_by(project), "recordings that judge teach nothing"

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

    # Others of the same words: a canary, which the batch after it confirms; then the pipeline trains for what drifted.
    set_policy(project, "canary: 0.0", "canary: 0.25")
    third = readapt(str(write_batch(tmp_path / "new", Day("new", NEW), take=10)), project=str(project))
    assert (third["outcome"], third["version"]) == ("canary", "v0.1.0")
    waiting = canary.record_of(project)
    assert waiting is not None
    assert waiting["model"] == content_digest(project / "canary")
    set_policy(project, "canary: 0.25", "canary: 0.0")
    set_policy(project, "drifted: learn", "drifted: retrain")
    train = "mkdir -p artifacts; cp -r $BASE artifacts/recogniser; wc -l < data/manifest.csv > trained"
    stage = {"cmd": train.replace("$BASE", str(find_base("conformer").folder)), "deps": ["data"]}
    Project(project).write(metatrain={**stage, "outs": ["artifacts/recogniser", "trained"]})
    readapt(str(write_batch(tmp_path / "more", Day("more", NEW), take=20)), project=str(project))
    assert canary.record_of(project) is None
    promoted = {version.name: version.record["model"] for version in versions.versions(project)}
    assert promoted["v0.2.0"] == waiting["model"]
    assert (project / "trained").read_text().strip() == str(1 + len(taught_by(project)))
    table = history.read(project)
    assert list(table["outcome"][:3]) == ["promote", "refuse", "canary"]
    assert "duration_s" in table["drifted"][2]
    assert list(table["fixed_before"].isna()) == [True, True, False, False]


def set_policy(project: Path, before: str, after: str) -> None:
    path = project / "policy.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def taught_by(project: Path) -> set[str]:
    decided = pd.read_csv(project / "field.csv")
    return set(decided.loc[(decided["use"] == "train") & (decided["decision"] == "accepted"), "sha256"])


def test_a_recording_always_has_the_same_use() -> None:
    digests = pd.Series([f"{i:064x}" for i in range(1000)])
    use = use_of(digests, LearnPolicy(held_out=0.3))
    assert use == use_of(digests, LearnPolicy(held_out=0.3))
    assert 250 < use.count("judge") < 350
