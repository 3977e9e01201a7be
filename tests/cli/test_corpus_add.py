"""`metavox corpus add` through the command line."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
from recordings import WORDS, save, spoken
from typer.testing import CliRunner

from metavox.cli.main import app
from metavox.dataset.shards import dvc_digest


@pytest.fixture
def clips(here: Path) -> Path:
    for take, word in enumerate(WORDS):
        folder = here / "clips" / word
        folder.mkdir(parents=True)
        save(folder / "a.wav", spoken(word, 0, take), 16000)
    (here / "clips/one/broken.wav").write_bytes(b"no audio")
    return here / "clips"


def metavox(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["corpus", *arguments])
    return result.exit_code, result.output


def test_add_reports_the_result_and_the_next_step(here: Path, clips: Path) -> None:
    status, output = metavox("add", "clips", "--speaker", "anna", "--language", "en", "--json", "report.json")
    assert status == 0, output
    for line in (
        "folders (a folder for each label), as source clips",
        "4 added: ",
        "0 already in the corpus, 1 refused, 0 other files ignored",
        "such as one/broken.wav",
        "warning: no split given",
        dvc_digest(here / "data"),
        "dvc init",
        "dvc push",
    ):
        assert line in output
    report = json.loads((here / "report.json").read_text())
    assert report["counts"] == {"take": 4, "have": 0, "refuse": 1}
    assert report["version"] == {"before": "", "after": dvc_digest(here / "data")}
    with (here / ".metavox/add/refused.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["one/broken.wav"]
    status, output = metavox("add", "clips", "--speaker", "anna", "--language", "en")
    assert (status, "4 already in the corpus" in output, "dvc push" in output) == (0, True, False)


def test_dry_run_writes_only_the_json(here: Path, clips: Path) -> None:
    before = dvc_digest(here)
    status, output = metavox(
        "add", "clips", "--speaker", "a", "--language", "en", "--dry-run", "--json", "report.json"
    )
    assert status == 0, output
    assert "4 would be added" in output
    report = json.loads((here / "report.json").read_text())
    assert [row["path"] for row in report["take"]] == ["four/a.wav", "one/a.wav", "three/a.wav", "two/a.wav"]
    (here / "report.json").unlink()
    assert dvc_digest(here) == before


def test_an_error_is_one_line_with_exit_status_two(here: Path, clips: Path) -> None:
    (here / "bad.csv").write_bytes(b"path,text\n\xff\n")
    for arguments, expected in (
        (("add", "gone"), "gone: no such file or folder"),
        (("add", "clips"), "no recording has a speaker; add --speaker NAME"),
        (("add", "bad.csv"), "byte 10 on line 2 is not UTF-8, and its encoding cannot be detected"),
        (("add", "clips", "--layout", "odd"), "expected one of folders, csv"),
    ):
        status, output = metavox(*arguments, "--json", "report.json")
        assert status == 2
        assert json.loads((here / "report.json").read_text())["faults"]
        assert not (here / "data").exists()
        assert "added" not in output
        assert expected in output or expected in str(output)
    (here / "only").mkdir()
    (here / "only/a.wav").write_bytes(b"no audio")
    status, output = metavox("add", "only", "--layout", "folders", "--speaker", "a", "--language", "en")
    assert status == 2


def test_add_pins_the_version_in_a_dvc_project(here: Path, clips: Path) -> None:
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True, cwd=here, capture_output=True)
    status, output = metavox("add", "clips", "--speaker", "anna", "--language", "en")
    assert status == 0, output
    assert f"version {dvc_digest(here / 'data')}, pinned in data.dvc" in output
    assert "dvc push data.dvc" in output
    assert dvc_digest(here / "data") in (here / "data.dvc").read_text()


def test_a_build_does_not_delete_added_recordings(here: Path, clips: Path) -> None:
    assert metavox("add", "clips", "--speaker", "anna", "--language", "en")[0] == 0
    before = dvc_digest(here / "data")
    status, output = metavox("build", "--profile", "tiny")
    assert status == 2
    assert "data: holds recordings from corpus add (clips), which a build would delete" in " ".join(
        output.split()
    )
    assert dvc_digest(here / "data") == before
