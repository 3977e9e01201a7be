"""Canaries, and the deletion of old versions, in a real git repository with DVC."""

import json
from pathlib import Path

import pytest
from test_versions import git, project, record, write  # noqa: F401 - a fixture
from typer.testing import CliRunner

from metavox.cli.main import app
from metavox.errors import UserError
from metavox.promotion import canary
from metavox.promotion.recovery import recover
from metavox.promotion.retention import prune
from metavox.promotion.versions import champion, promote, roll_back


def challenger(project: Path, text: str) -> Path:  # noqa: F811
    folder = project.parent / f"{project.name}-challenger"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(text)
    return folder


def test_a_canary_is_committed_and_becomes_a_version_when_it_is_promoted(
    project: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project)
    before = champion(project)
    canary.place(project, challenger(project, "three"), record(project, "three"), 0.25)
    assert git(project, "status", "--porcelain") == ""
    assert json.loads((project / "canary.json").read_text())["share"] == 0.25
    assert champion(project) == before
    listed = CliRunner().invoke(app, ["champion", "list"]).output
    assert "canary" in listed
    assert "champion" in listed
    done = CliRunner().invoke(app, ["champion", "promote"])
    assert done.exit_code == 0, done.output
    now = champion(project)
    assert now is not None
    assert (now.name, now.record["batch"]) == ("v0.3.0", "three")
    assert (project / "champion/file").read_text() == "three"
    assert not (project / "canary").exists()
    assert git(project, "status", "--porcelain") == ""
    assert "there is no canary" in CliRunner().invoke(app, ["champion", "drop"]).stderr


def test_an_interrupted_canary_is_undone_and_an_interrupted_promotion_of_it_too(project: Path) -> None:  # noqa: F811
    (project / "canary").mkdir()
    (project / "canary/file").write_text("half")
    assert recover(project)
    assert not (project / "canary").exists()
    canary.place(project, challenger(project, "four"), record(project, "four"), 0.1)
    assert not recover(project)
    (project / "champion/file").write_text("four")
    canary.discard(project)
    assert recover(project)
    assert (project / "champion/file").read_text() == "three"
    assert (project / "canary/file").read_text() == "four"
    canary.discard(project)


def test_a_batch_can_be_kept_out_of_later_challengers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(project)
    assert CliRunner().invoke(app, ["champion", "refuse", "b"]).exit_code == 0
    assert "accepted" not in (project / "field.csv").read_text()
    assert "expected one of b" in CliRunner().invoke(app, ["champion", "refuse", "x"]).stderr


def test_only_files_that_nothing_uses_are_deleted(project: Path) -> None:  # noqa: F811
    for text in ("five", "six"):
        write(project, text)
        promote(project, record(project, text))
    roll_back(project, "v0.3.0")
    write(project, "one")  # the content of v0.1.0 is in use again
    promote(project, record(project, "seven"))
    listed = prune(project, keep=1, dry_run=True)
    assert "v0.1.0" in listed.versions
    assert "v0.3.0" not in listed.versions, "the champion before this one stays"
    done = prune(project, keep=1)
    assert (done.versions, done.files, done.bytes) == (listed.versions, listed.files, listed.bytes)
    assert done.files > 0
    assert prune(project, keep=1).files == 0
    assert roll_back(project, "v0.1.0").name == "v0.1.0", "its file is the present champion's"
    assert roll_back(project, "v0.3.0").name == "v0.3.0"
    with pytest.raises(UserError, match="dvc"):
        roll_back(project, "v0.4.0")
