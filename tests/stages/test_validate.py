"""The validate stage on files: what it writes, where its reports are after a failure, and reproducibility."""

import json
from pathlib import Path

import pandas as pd
import pytest

from metavox.dataset.manifest import read_manifest
from metavox.errors import UserError
from metavox.params import Params
from metavox.quality.drift import judge_drift
from metavox.quality.released import write_released
from metavox.reports import charts
from metavox.stages.validate import run

pytestmark = pytest.mark.usefixtures("coarse_charts")


def rows() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "path": [f"a/{number}.wav" for number in range(24)],
            "text": "слово",
            "speaker": [f"speaker-{number // 3}" for number in range(24)],
            "language": "ru",
            "split": ["train"] * 12 + ["dev"] * 6 + ["test"] * 6,
            "synthetic": False,
            "duration_s": 1.5,
            "sample_rate": 16000,
            "content": [f"{number:064x}" for number in range(24)],
            "error": "",
        }
    )
    table = table.assign(peak=0.5, rms_db=-20.0, dc_offset=0.0, clipping=0.0, silence=0.1)
    return table.assign(snr_db=25.0, bandwidth_hz=7000.0)


def prepared(root: Path, table: pd.DataFrame) -> Path:
    folder = root / "artifacts" / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "manifest.parquet", index=False)
    return root


def test_clean_rows_quarantine_verdict_and_metrics_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows()
    table.loc[[0, 4], "clipping"] = 0.5
    table.loc[4, "text"] = "word"
    run(Params(), prepared(tmp_path, table))
    validated = tmp_path / "artifacts" / "validated"
    clean = pd.read_parquet(validated / "manifest.parquet")
    assert list(clean["path"]) == [path for path in table["path"] if path not in ("a/0.wav", "a/4.wav")]
    quarantine = pd.read_csv(validated / "quarantine.csv")
    assert list(quarantine.columns[:3]) == ["path", "reasons", "checks"]
    assert list(quarantine["path"]) == ["a/0.wav", "a/4.wav"]
    assert quarantine["reasons"][1].split("; ")[1] == "text is in LATIN, expected CYRILLIC for language ru"
    verdict = json.loads((validated / "verdict.json").read_text())
    assert verdict["success"] is True
    assert verdict["limits"]["max_clipping"] == Params().validate_.max_clipping
    assert json.loads((tmp_path / "artifacts" / "metrics" / "validate.json").read_text()) == {
        "success": True,
        "failed": [],
        "warnings": [],
        "warned": 0,
        "rows": 24,
        "hours": 0.009,
        "speakers": 8,
        "languages": 1,
        "clean": 22,
        "quarantined": 2,
        "released": 0,
        "reasons": {"clipping": 2, "script": 1},
    }
    printed = capsys.readouterr()
    assert "22 of 24 recordings are clean" in printed.out
    assert printed.err == ""


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after its validate stage, with clean rows only."""
    root = prepared(tmp_path_factory.mktemp("validated"), rows())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "DPI", charts.DPI // 3)  # as coarse_charts does
        run(Params(), root)
    return root


def test_same_rows_give_the_same_bytes(validated: Path, tmp_path: Path) -> None:
    run(Params(), prepared(tmp_path, rows()))
    written = []
    for root in (validated, tmp_path):
        files = sorted(path for path in (root / "artifacts").rglob("*") if path.is_file())
        written.append([(path.relative_to(root), path.read_bytes()) for path in files])
    assert written[0] == written[1]


def test_a_fault_of_the_set_is_a_one_line_error_and_leaves_the_verdict_quarantine_and_pages(
    tmp_path: Path,
) -> None:
    table = rows()
    table.loc[0, "clipping"] = 0.5
    table.loc[23, "speaker"] = "speaker-0"
    with pytest.raises(
        UserError, match="speaker on one split: speaker speaker-0 is in test and train"
    ) as raised:
        run(Params(), prepared(tmp_path, table))
    assert "see .metavox/validate/report.html" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)
    folder = tmp_path / ".metavox" / "validate"
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["success"] is False
    assert verdict["failed"][0]["name"] == "speaker on one split"
    assert list(pd.read_csv(folder / "quarantine.csv")["path"]) == ["a/0.wav"]
    assert not (tmp_path / "artifacts" / "validated").exists()
    assert not (tmp_path / "artifacts" / "metrics").exists()
    for page in ("expectations.html", "report.html"):
        assert "speaker on one split" in (folder / page).read_text().lower()


def test_rows_without_measures_are_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column snr_db"):
        run(Params(), prepared(tmp_path, rows().drop(columns="snr_db")))


def test_warnings_are_printed_and_counted_but_stop_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows()
    table.loc[0, "language"] = "uk"
    run(Params(), prepared(tmp_path, table))
    metrics = json.loads((tmp_path / "artifacts/metrics/validate.json").read_text())
    assert (metrics["success"], metrics["warnings"], metrics["warned"]) == (
        True,
        ["language with one speaker"],
        1,
    )
    verdict = json.loads((tmp_path / "artifacts/validated/verdict.json").read_text())
    assert verdict["warnings"][0]["explanation"] == "uk has 1, expected at least 2"
    assert "warning: language with one speaker: uk has 1" in capsys.readouterr().out


def test_pages_and_profile_are_written(validated: Path) -> None:
    pages = validated / "artifacts" / "data_report"
    assert {path.name for path in pages.iterdir()} == {"expectations.html", "report.html"}
    assert "recordings: 18 of 18 expectations met" in (pages / "expectations.html").read_text()
    known = json.loads((validated / "artifacts/validated/profile.json").read_text())
    clean, limits = read_manifest(validated / "artifacts/validated/manifest.parquet"), Params().validate_
    assert judge_drift(clean, known, limits).success
    assert not judge_drift(clean.assign(bandwidth_hz=3900.0), known, limits).success


def test_released_rows_of_the_project_are_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows()
    table.loc[[0, 4], "clipping"] = 0.5
    release = table.loc[[4], ["content", "path"]].assign(reasons="clipping", because="heard")
    write_released(release, tmp_path / "released.csv")
    run(Params(), prepared(tmp_path, table))
    validated = tmp_path / "artifacts" / "validated"
    assert "a/4.wav" in set(pd.read_parquet(validated / "manifest.parquet")["path"])
    assert list(pd.read_csv(validated / "quarantine.csv")["path"]) == ["a/0.wav"]
    assert "1 quarantined, 1 released" in capsys.readouterr().out


def test_a_stage_without_its_input_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="metavox stage prepare"):
        run(Params(), tmp_path)
