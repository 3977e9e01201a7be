"""Versions of a corpus in a real git and DVC project: added, fetched from a remote, compared, reported."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import zc.lockfile
from dvc.cli import main as dvc_main
from recordings import spoken
from soundfile import write
from typer.testing import CliRunner, Result

from metavox.cli.corpus_versions import dvc_add, manifest_of, pinned
from metavox.cli.main import app
from metavox.dataset.manifest import read_manifest
from metavox.errors import UserError
from metavox.telemetry import disable_telemetry

disable_telemetry()


def sh(folder: Path, *command: str) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout


def dvc(folder: Path, *arguments: str) -> None:
    with contextlib.chdir(folder):
        assert dvc_main([*arguments]) == 0


def write_data(project: Path, speakers: dict[str, str]) -> None:
    """data/ with four words by each speaker, each in the split given."""
    rows = []
    for index, (speaker, split) in enumerate(speakers.items()):
        for word in ("one", "two", "three", "four"):
            path = project / "data" / speaker / f"{word}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, spoken(word, index, 0), 16000)
            rows.append({"path": f"{speaker}/{word}.wav", "text": word, "speaker": speaker, "split": split})
    table = pd.DataFrame(rows).assign(language="en", duration_s=0.5, sample_rate=16000)
    table.to_csv(project / "data" / "manifest.csv", index=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions in git, both pushed to a remote; DVC's cache is deleted. In the second, bert is in another split."""
    project = tmp_path_factory.mktemp("versions") / "project"
    project.mkdir()
    sh(project, "git", "init", "-q")
    sh(project, "git", "config", "user.email", "someone@example.org")
    sh(project, "git", "config", "user.name", "someone")
    dvc(project, "init", "-q")
    dvc(project, "remote", "add", "-q", "-d", "far", str(project.parent / "far"))
    sh(project, "git", "commit", "-qm", "nothing yet")
    for tag, speakers in (
        ("v1", {"anna": "train", "bert": "test", "carl": "test"}),
        ("v2", {"anna": "train", "bert": "train", "carl": "test", "dora": "dev"}),
    ):
        shutil.rmtree(project / "data", ignore_errors=True)
        write_data(project, speakers)
        dvc_add(project / "data")
        sh(project, "git", "add", "-A")
        sh(project, "git", "commit", "-qm", tag)
        sh(project, "git", "tag", tag)
    dvc(project, "push", "-q", "--all-tags")
    shutil.rmtree(project / ".dvc" / "cache")
    return project


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_only_the_manifest_of_a_version_is_downloaded(project: Path) -> None:
    before = sh(project, "git", "status", "--porcelain")
    assert list(manifest_of("v1", project)["speaker"].unique()) == ["anna", "bert", "carl"]
    assert list(manifest_of("HEAD", project)["speaker"].unique()) == ["anna", "bert", "carl", "dora"]
    commit = sh(project, "git", "rev-parse", "--short", "HEAD~1").strip()
    pd.testing.assert_frame_equal(manifest_of(commit, project), manifest_of("v1", project))
    assert sh(project, "git", "status", "--porcelain") == before
    cached = [
        path for path in (project / ".dvc").rglob("*") if path.suffix == ".wav" or b"RIFF" in head(path)
    ]
    assert cached == [], "no recording was fetched"


def head(path: Path) -> bytes:
    return path.read_bytes()[:4] if path.is_file() else b""


def test_a_version_can_be_a_path(project: Path, tmp_path: Path) -> None:
    here = read_manifest(project / "data" / "manifest.csv")
    copy = tmp_path / "copy.csv"
    here.to_csv(copy, index=False)
    for version in ("workspace", str(project / "data"), str(copy)):
        assert list(manifest_of(version, project)["path"]) == list(here["path"])


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("no-such-tag", "neither a git revision of"),
        ("HEAD~2", "that revision has no data.dvc"),
        ("gone.csv", "no such file"),
    ],
)
def test_a_missing_version_is_a_one_line_error(project: Path, version: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        manifest_of(version, project)
    assert "\n" not in str(caught.value)


def test_a_version_in_neither_cache_nor_remote_is_a_one_line_error(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    sh(tmp_path, "git", "clone", "-q", str(project), str(clone))
    with (
        unavailable(project.parent / "far"),
        pytest.raises(UserError, match="neither in DVC's cache nor in its remote"),
    ):
        manifest_of("v1", clone)
    assert len(manifest_of("v1", clone)) == 12


@contextlib.contextmanager
def unavailable(folder: Path):  # type: ignore[no-untyped-def]
    hidden = folder.rename(folder.with_name("hidden"))
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # DVC creates an empty folder
        hidden.rename(folder)


def test_project_in_a_folder_of_a_repository(tmp_path: Path) -> None:
    sh(tmp_path, "git", "init", "-q")
    inner = tmp_path / "inner"
    inner.mkdir()
    dvc(inner, "init", "-q", "--subdir")
    write_data(inner, {"anna": "train"})
    assert dvc_add(inner / "data").endswith(".dir")
    sh(tmp_path, "git", "add", "-A")
    sh(tmp_path, "git", "-c", "user.email=a@example.org", "-c", "user.name=a", "commit", "-qm", "one")
    assert len(manifest_of("HEAD", inner)) == 4


def test_add_returns_a_digest_of_the_content(tmp_path: Path) -> None:
    dvc(tmp_path, "init", "-q", "--no-scm")
    write_data(tmp_path, {"anna": "train"})
    assert pinned(tmp_path / "data") == ""
    first = dvc_add(tmp_path / "data")
    assert first == pinned(tmp_path / "data") == dvc_add(tmp_path / "data")
    assert len(first) == 32 + len(".dir")
    write_data(tmp_path, {"anna": "train", "bert": "test"})
    assert dvc_add(tmp_path / "data") != first


def test_add_names_the_obstacle(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="not in a DVC project"):
        dvc_add(tmp_path / "data")
    dvc(tmp_path, "init", "-q", "--no-scm")
    write_data(tmp_path, {"anna": "train"})
    lock = zc.lockfile.LockFile(str(tmp_path / ".dvc" / "tmp" / "lock"))
    with contextlib.closing(lock), pytest.raises(UserError, match="another DVC command is running"):
        dvc_add(tmp_path / "data")
    assert not (tmp_path / "data.dvc").exists()
    assert dvc_add(tmp_path / "data")


def test_diff_of_two_versions(inside: Path, tmp_path: Path) -> None:
    page, found = tmp_path / "diff.html", tmp_path / "diff.json"
    result = run("corpus", "diff", "v1", "--json", found, "--html", page)
    assert result.exit_code == 0, result.output
    output = " ".join(result.stdout.split())
    assert "WARNING: test speaker bert is now in train" in output
    assert "4 recordings added" in output
    assert "New speakers: dora" in output
    report = json.loads(found.read_text())
    assert (report["before"], report["after"]) == ("v1", "workspace")
    assert report["counts"]["added"] == 4
    assert report["speakers_new"] == ["dora"]
    assert [row["speaker"] for row in report["moved"]] == ["bert"]
    assert "test speaker bert" in page.read_text()
    same = run("corpus", "diff")
    assert same.exit_code == 0
    assert "Nothing changed: recordings" in same.stdout


def test_diff_with_a_missing_version(inside: Path) -> None:
    result = run("corpus", "diff", "v7")
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.usefixtures("coarse_charts")
def test_report_of_the_workspace_since_a_version(inside: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "page.html"
    result = run("corpus", "report", "--out", out, "--since", "v1")
    assert result.exit_code == 0, result.output
    assert "16 recordings" in result.stdout
    page = out.read_text()
    for expected in ("Changes since v1", "test speaker bert is now in train", "16 recordings of 4 speakers"):
        assert expected in page
    assert os.listdir(out.parent) == ["page.html"]


@pytest.mark.usefixtures("coarse_charts")
def test_report_of_any_manifest(inside: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    for word in ("one", "two"):
        shutil.copy(inside / "data" / "anna" / f"{word}.wav", tmp_path)
    rows = [f"{word}.wav,{word}" for word in ("one", "two")]
    bare.write_text("\n".join(["path,text", *rows, "missing.wav,three"]) + "\n")
    result = run("corpus", "report", bare, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    assert "the corpus fails the quality gate: " in line
    assert "split" in line.partition("fails the quality gate: ")[2], "the reason: there are no splits"
    assert (tmp_path / "page.html").read_text().count("no such recording") == 1, (
        "paths are relative to the manifest"
    )
    bare.write_text("path,text\n")
    empty = run("corpus", "report", bare, "--out", tmp_path / "none.html")
    assert empty.exit_code == 2
    assert not (tmp_path / "none.html").exists()
