"""Versions in a real git repository with DVC: promotion, the way back, and interruptions."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gto import api
from typer.testing import CliRunner

from metavox.cli.main import app
from metavox.errors import UserError
from metavox.files import content_digest
from metavox.promotion.recovery import recover
from metavox.promotion.versions import (
    champion,
    commit,
    digest_of,
    next_name,
    previous,
    promote,
    roll_back,
    versions,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two promoted versions: v0.1.0, then v0.2.0."""
    folder = tmp_path_factory.mktemp("project")
    author = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    for command in (
        ("git", "init", "-q"),
        (sys.executable, "-m", "dvc", "init", "-q"),
        ("git", *author, "commit", "-qm", "a project"),
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    for text in ("one", "two"):
        write(folder, text)
        promote(folder, record(folder, text))
    return folder


def write(project: Path, text: str) -> None:
    for name in ("champion", "field"):
        (project / name).mkdir(exist_ok=True)
        (project / name / "file").write_text(text)
    (project / "field.csv").write_text(f"sha256,batch,use,decision\n{text},b,train,accepted\n")


def record(project: Path, text: str) -> dict[str, Any]:
    return {
        "version": next_name(project),
        "parent": "",
        "batch": text,
        "why": f"{text} is better",
        "decided": {"by": "policy.yaml", "policy": "0123"},
        "commit": "",
        "data": "",
        "model": content_digest(project / "champion"),
        "metrics": {},
        "recordings": [text],
    }


def git(project: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True, text=True).stdout


def test_promotions_are_commits_and_tags_that_gto_reads(project: Path) -> None:
    assert [version.name for version in versions(project)] == ["v0.2.0", "v0.1.0"]
    now, before = champion(project), previous(project)
    assert now is not None
    assert before is not None
    assert (now.name, before.name) == ("v0.2.0", "v0.1.0")
    assert now.record["recordings"] == ["two"]
    assert git(project, "status", "--porcelain") == ""
    shown = {row["version"] for row in api.show(str(project), "recogniser")}
    assert shown == {"v0.1.0", "v0.2.0"}


def test_a_response_leads_to_its_recordings(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    model = record(project, "two")["model"]
    shown = CliRunner().invoke(app, ["champion", "lineage", model[:16]])
    assert shown.exit_code == 0, shown.output
    assert "version: v0.2.0" in shown.output
    assert "decided by: policy.yaml 0123: two is better" in shown.output
    listed = json.loads(CliRunner().invoke(app, ["champion", "lineage", "v0.1.0", "--json"]).output)
    assert listed["recordings"] == ["one"]
    unknown = CliRunner().invoke(app, ["champion", "lineage", "0" * 16])
    assert "no version has this model" in unknown.output + unknown.stderr


def test_a_rollback_restores_the_whole_model_and_can_be_undone(project: Path) -> None:
    assert roll_back(project).name == "v0.1.0"
    now = champion(project)
    assert now is not None
    assert now.name == "v0.1.0"
    assert (project / "champion/file").read_text() == "one"
    assert json.loads((project / "record.json").read_text())["batch"] == "one"
    assert (project / "field/file").read_text() == "two", "what was collected since stays"
    assert git(project, "status", "--porcelain") == ""
    assert roll_back(project).name == "v0.2.0"
    assert (project / "champion/file").read_text() == "two"
    with pytest.raises(UserError, match=r"version v9: there is none; expected one of v0.2.0, v0.1.0"):
        roll_back(project, "v9")


def test_an_interrupted_promotion_is_undone(project: Path) -> None:
    assert not recover(project)
    pinned = digest_of(project / "champion.dvc")
    (project / "champion/file").write_text("half")
    (project / "record.json").write_text("{}")
    (project / "field.csv").write_text("sha256,batch,use,decision\nthree,b,train,accepted\n")
    assert recover(project)
    assert "three" not in (project / "field.csv").read_text(), "what it decided about is undecided again"
    assert (project / "champion/file").read_text() == "two"
    assert digest_of(project / "champion.dvc") == pinned
    assert not recover(project)


def test_a_file_that_the_user_has_staged_is_not_committed(project: Path) -> None:
    (project / "mine").write_text("x")
    git(project, "add", "mine")
    with pytest.raises(UserError, match="mine: is staged"):
        commit(project, "no")
    git(project, "rm", "-q", "--cached", "mine")
    (project / "mine").unlink()


def test_a_first_champion_without_a_commit_is_moved_aside(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, "half")
    assert recover(tmp_path)
    assert not (tmp_path / "champion").exists()
    assert not (tmp_path / "field.csv").exists()
    (kept,) = tmp_path.glob(".metavox/champion-*/file")
    assert kept.read_text() == "half"
    assert not recover(tmp_path)
