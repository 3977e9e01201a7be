"""The quarantine through the command line: listing, showing, releasing and withdrawing a release."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from metavox.cli.main import app
from metavox.params import Validate
from metavox.quality import judge
from metavox.quality.released import read_released
from metavox.stages.validate import write_quarantine

QUARANTINE = Path(".metavox/validate/quarantine.csv")


def prepared() -> pd.DataFrame:
    """20 recordings: 0 and 1 clipped, 2 clipped and in another script, 3 broken, 4 and 5 contradictory."""
    rows = pd.DataFrame(
        {
            "path": [f"a.tar/v{number // 2}/{number}.wav" for number in range(20)],
            "text": "слово",
            "speaker": [f"v{number // 2}" for number in range(20)],
            "language": "ru",
            "speaker_group": "",
            "source": ["one", "two"] * 10,
            "license": "",
            "environment": "[room]",
            "split": "train",
            "unit": "word",
            "text_kind": "spoken",
            "synthetic": False,
            "duration_s": 1.5,
            "sample_rate": 16000,
            "sha256": "",
            "content": [f"{number:064x}" for number in range(20)],
            "error": "",
        }
    )
    rows = rows.assign(peak=0.5, rms_db=-20.0, dc_offset=0.0, clipping=0.0, silence=0.1)
    rows = rows.assign(snr_db=25.0, bandwidth_hz=7000.0)
    rows.loc[[0, 1, 2], "clipping"] = 0.25
    rows.loc[2, "text"] = "word"
    rows.loc[3, "error"] = "the file is empty"
    rows.loc[[4, 5], "content"] = "d" * 64
    rows.loc[5, "text"] = "дом"
    return rows


@pytest.fixture(scope="module")
def before_releases(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The quarantine of a project without releases."""
    return judged(tmp_path_factory.mktemp("project") / "released.csv")


@pytest.fixture
def project(before_releases: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_quarantine(before_releases, QUARANTINE)
    return tmp_path


def judged(released: Path) -> pd.DataFrame:
    return judge(prepared(), Validate(), read_released(released)).quarantine


def write_current_quarantine() -> pd.DataFrame:
    """Judge the rows with the releases so far, write the quarantine as the stage does, and return it."""
    quarantine = judged(Path("released.csv"))
    write_quarantine(quarantine, QUARANTINE)
    return quarantine


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["corpus", "quarantine", *(str(argument) for argument in arguments)])


def ok(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.usefixtures("project")
def test_list_shows_rejected_recordings_with_reasons() -> None:
    output = ok("list")
    assert "a.tar/v1/2.wav" in output
    assert "0.250 of the recording is clipped, expected at most 0.05; text is in LATIN" in output
    assert "6 recordings: 3 clipping, 2 contradiction, 1 script, 1 undecodable" in output
    assert [row["path"] for row in json.loads(ok("list", "--reason", "script", "--json"))] == [
        "a.tar/v1/2.wav"
    ]
    assert [row["number"] for row in json.loads(ok("list", "--source", "two", "--json"))] == [2, 4, 6]
    assert json.loads(ok("list", "--source", "three", "--json")) == []
    assert "0 recordings: none" in ok("list", "--source", "three")
    assert "expected one of undecodable" in refused("list", "--reason", "ugly")


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("which", ["3", "a.tar/v1/2.wav", "2.wav"])
def test_show_prints_everything_about_a_recording(which: str) -> None:
    output = ok("show", which)
    for expected in (
        "a.tar/v1/2.wav",
        "word",
        "[room]",
        "0.25",
        "7000",
        "text is in LATIN",
        "-> correct the text",
    ):
        assert expected in output
    report = json.loads(ok("show", which, "--json"))
    assert report["checks"] == ["clipping", "script"] == list(report["to_do"])
    assert report["clipping"] == "0.25"


@pytest.mark.usefixtures("project")
def test_a_recording_outside_the_quarantine_is_a_one_line_error() -> None:
    assert "not in the quarantine" in refused("show", "77")
    assert "not in the quarantine" in refused("show", "9.wav")
    QUARANTINE.unlink()
    assert "run metavox stage validate" in refused("list")


def test_the_quarantine_of_the_pipeline_takes_precedence_over_that_of_a_stopped_run(project: Path) -> None:
    rows = pd.read_csv(QUARANTINE)
    write_quarantine(rows.head(1), project / "artifacts/validated/quarantine.csv")
    assert len(json.loads(ok("list", "--json"))) == 1


@pytest.mark.usefixtures("project")
def test_released_recordings_pass_the_gate_until_the_release_is_undone() -> None:
    ok("release", "1", "2.wav", "--because", "heard  both:\nclear")
    table = read_released(Path("released.csv"))
    assert list(table["path"]) == ["a.tar/v0/0.wav", "a.tar/v1/2.wav"]
    assert list(table["reasons"]) == ["clipping", "clipping; script"]
    assert set(table["because"]) == {"heard both: clear"}
    assert [path[-5:] for path in write_current_quarantine()["path"]] == ["1.wav", "3.wav", "4.wav", "5.wav"]
    ok("release", "a.tar/v1/2.wav", "--undo")
    assert len(write_current_quarantine()) == 5
    assert "not released" in refused("release", "2.wav", "--undo")


@pytest.mark.usefixtures("project")
def test_release_of_a_reason_applies_to_rows_with_no_other_reason() -> None:
    assert "2 released" in ok("release", "--reason", "clipping", "--because", "heard")
    assert len(write_current_quarantine()) == 4
    assert "no recording was rejected" in refused("release", "--reason", "clipping", "--because", "heard")
    assert "2 no longer released" in ok("release", "--reason", "clipping", "--undo")
    assert len(write_current_quarantine()) == 6


@pytest.mark.usefixtures("project")
def test_releasing_again_replaces_the_row() -> None:
    ok("release", "1", "--because", "heard")
    ok("release", "1", "--because", "heard again")
    assert list(read_released(Path("released.csv"))["because"]) == ["heard again"]


@pytest.mark.usefixtures("project")
def test_contradiction_is_resolved_by_releasing_the_right_row() -> None:
    ok("release", "5.wav", "--because", "this is what is said")
    assert [path for path in write_current_quarantine()["path"] if path.endswith(("4.wav", "5.wav"))] == [
        "a.tar/v2/4.wav"
    ]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["3.wav", "--because", "x"], "undecodable, so there is nothing to learn from"),
        (["--reason", "undecodable", "--because", "x"], "undecodable, so there is nothing to learn from"),
        (["1"], "--because"),
        (["1", "--because", " "], "--because"),
        (["--because", "x"], "expected either recordings or --reason"),
        (["1", "--reason", "clipping", "--because", "x"], "expected either recordings or --reason"),
        (["1", "77", "--because", "x"], "77: not in the quarantine"),
    ],
)
def test_a_refused_release_writes_nothing(arguments: list[str], message: str) -> None:
    assert message in refused("release", *arguments)
    assert not Path("released.csv").exists()
