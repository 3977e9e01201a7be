"""`metavox corpus add`, as it is typed."""

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


def test_add_tells_what_it_did_and_what_to_do(here: Path, clips: Path) -> None:
    status, said = metavox("add", "clips", "--speaker", "anna", "--language", "en", "--json", "told.json")
    assert status == 0, said
    for line in (
        "folders (a folder for each label), as source clips",
        "4 taken: ",
        "0 there already, 1 refused, 0 other files ignored",
        "such as one/broken.wav",
        "warning: split not said",
        dvc_digest(here / "data"),
        "dvc init",
        "dvc push",
    ):
        assert line in said
    told = json.loads((here / "told.json").read_text())
    assert told["counts"] == {"take": 4, "have": 0, "refuse": 1}
    assert told["version"] == {"before": "", "after": dvc_digest(here / "data")}
    with (here / ".metavox/add/refused.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["one/broken.wav"]
    status, said = metavox("add", "clips", "--speaker", "anna", "--language", "en")
    assert (status, "4 there already" in said, "dvc push" in said) == (0, True, False)


def test_dry_run_writes_only_the_json(here: Path, clips: Path) -> None:
    before = dvc_digest(here)
    status, said = metavox(
        "add", "clips", "--speaker", "a", "--language", "en", "--dry-run", "--json", "told.json"
    )
    assert status == 0, said
    assert "4 would be taken" in said
    told = json.loads((here / "told.json").read_text())
    assert [row["path"] for row in told["take"]] == ["four/a.wav", "one/a.wav", "three/a.wav", "two/a.wav"]
    (here / "told.json").unlink()
    assert dvc_digest(here) == before


def test_a_fault_is_one_line_and_two(here: Path, clips: Path) -> None:
    (here / "bad.csv").write_bytes(b"path,text\n\xff\n")
    for arguments, expected in (
        (("add", "gone"), "gone: no such file or folder"),
        (("add", "clips"), "no recording says its speaker; add --speaker NAME"),
        (("add", "bad.csv"), "byte 10 on line 2 is not UTF-8, and its encoding cannot be detected"),
        (("add", "clips", "--layout", "odd"), "expected one of folders, csv"),
    ):
        status, said = metavox(*arguments, "--json", "told.json")
        assert status == 2
        assert json.loads((here / "told.json").read_text())["faults"]
        assert not (here / "data").exists()
        assert "taken" not in said
        assert expected in said or expected in str(said)
    (here / "only").mkdir()
    (here / "only/a.wav").write_bytes(b"no audio")
    status, said = metavox("add", "only", "--layout", "folders", "--speaker", "a", "--language", "en")
    assert status == 2


def test_add_pins_the_version_in_a_dvc_project(here: Path, clips: Path) -> None:
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True, cwd=here, capture_output=True)
    status, said = metavox("add", "clips", "--speaker", "anna", "--language", "en")
    assert status == 0, said
    assert f"version {dvc_digest(here / 'data')}, pinned in data.dvc" in said
    assert "dvc push data.dvc" in said
    assert dvc_digest(here / "data") in (here / "data.dvc").read_text()


def test_a_build_does_not_drop_what_was_added(here: Path, clips: Path) -> None:
    assert metavox("add", "clips", "--speaker", "anna", "--language", "en")[0] == 0
    before = dvc_digest(here / "data")
    status, said = metavox("build", "--profile", "tiny")
    assert status == 2
    assert "data: holds what corpus add brought (clips), which a build would drop" in " ".join(said.split())
    assert dvc_digest(here / "data") == before
