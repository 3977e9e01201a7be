"""`metavox fewshot` with several shots, unknown and background queries, slices, and the report page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import record, save, write_rows
from typer.testing import CliRunner, Result

from metavox.cli.main import app


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four words by two speakers in two rooms, and two recordings without speech."""
    folder = tmp_path_factory.mktemp("rooms")
    rows = [{**row, "environment": f"room {row['speaker']}"} for row in record(folder / "clips")]
    random = np.random.default_rng(0)
    for name in ("hum", "hiss"):
        save(folder / f"{name}.wav", random.normal(0, 0.01, 8000).astype(np.float32), 16000)
        rows.append({"path": f"{name}.wav", "text": "", "speaker": "", "language": "xx", "environment": ""})
    return write_rows(folder / "rooms.csv", rows)


def run(manifest: Path, model: str, *more: object) -> tuple[Result, dict[str, Any]]:
    shape = (
        "--way",
        2,
        "--queries",
        2,
        "--episodes",
        30,
        "--views",
        0,
        "--base",
        model,
        "--json",
        "found.json",
    )
    result = CliRunner().invoke(app, ["fewshot", *map(str, (manifest, *shape, *more))])
    return result, json.loads(Path("found.json").read_text()) if result.exit_code == 0 else {}


@pytest.mark.usefixtures("here", "coarse_charts")
def test_shots_unknown_queries_slices_and_the_report(manifest: Path, model: str) -> None:
    more = (
        "--shots",
        "1,3,20",
        "--unknown",
        2,
        "--background",
        1,
        "--by",
        "speaker",
        "--by",
        "environment",
        "--by",
        "source",
        "--before",
        "--report",
        "page.html",
    )
    result, found = run(manifest, model, *more)
    assert result.exit_code == 0, result.output
    assert list(found["by_shots"]) == ["1", "3"]
    assert "cannot be drawn" in found["not_measured"]["20"]
    assert "20-shot: not measured:" in result.output
    assert found["shot"] == 3
    for one in found["by_shots"].values():
        at = one["accuracy_at_false_accepts"]
        assert at["1%"]["mean"] <= at["5%"]["mean"] <= one["accuracy"]["mean"]
        assert 0 <= one["equal_error_rate"]["mean"] <= 1
        assert 0 <= one["expected_calibration_error"]["mean"] <= 1
        assert one["unknown_queries"] == 30 * (2 * 2 + 1)
        assert {"precision_ci95", "recall_ci95", "f1_ci95", "adaptation_ms"} <= set(one)
    assert found["accuracy"] == found["by_shots"]["3"]["accuracy"]
    assert set(found["before"]) == {"1", "3"}
    assert {one["value"] for one in found["slices"]["speaker"]} == {"v0", "v1"}
    assert {one["value"] for one in found["slices"]["environment"]} == {"room v0", "room v1"}
    assert [one["value"] for one in found["slices"]["source"]] == ["(not named)"]
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    for part in ("Confusion matrix", "Word embeddings", "Accuracy by environment", "Why the model decided"):
        assert part in page


@pytest.mark.usefixtures("here")
def test_slices_that_are_too_small_are_marked(manifest: Path, model: str) -> None:
    lines = manifest.read_text(encoding="utf-8").splitlines()
    moved = [line.replace(",v1,", ",v2,") if i % 9 == 0 else line for i, line in enumerate(lines)]
    few = manifest.with_name("few.csv")
    few.write_text("\n".join(moved), encoding="utf-8")
    result, found = run(few, model, "--shot", 1, "--pairing", "any", "--by", "speaker")
    assert result.exit_code == 0, result.output
    small = {one["value"] for one in found["slices"]["speaker"] if one.get("too_small")}
    assert small == {"v2"}
    assert "too few" in result.output


@pytest.mark.usefixtures("here")
def test_refusals_are_one_line(manifest: Path, model: str) -> None:
    for more, message in (
        (("--shots", "1,x"), "--shots 1,x: expected numbers from 1"),
        (("--shots", "0"), "--shots 0: expected numbers from 1"),
        (
            ("--shot", 1, "--background", 3),
            "2 words with 1+2 clips each (same-speaker) and 3 background clips cannot",
        ),
        (("--shot", 1, "--unknown", 3), "and 3 unknown words cannot be drawn from 40 clips"),
    ):
        result, _ = run(manifest, model, *more)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
