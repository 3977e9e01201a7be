"""The evaluate stage on a small project: tables, metrics, the report, and what could not be measured."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from small_pipeline import PARAMS

from metavox.files import write_json
from metavox.recognisers.conformer.artifact import save_model
from metavox.recognisers.conformer.network import Network
from metavox.stages import adapt, evaluate


@pytest.fixture
def trained(project: Path, make_model: Callable[..., Network]) -> Path:
    """A project with two untrained arms and the deltas of the adapt stage."""
    for i, arm in enumerate(("joint", "meta")):
        save_model(make_model(i), project / "artifacts/recogniser/arms" / arm, "# an arm\n")
    write_json(
        project / "artifacts/metrics/metatrain.json", {"chosen": "joint", "steps": {"warmup": 6, "joint": 5}}
    )
    adapt.run(PARAMS, project)
    return project


def test_the_stage_reports_what_it_measured_and_what_it_could_not(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.run(PARAMS, trained)
    assert "30-shot is not measured" in capsys.readouterr().out
    found = json.loads((trained / "artifacts/metrics/evaluate.json").read_text())
    assert found["gate"]["passed"]
    for measure in ("accuracy", "precision", "recall", "f1", "at_1", "at_5", "cer", "wer"):
        assert set(found["headline"][measure]) == {"before", "after"}, measure
    assert set(found["slices"]) == {"speaker", "language", "environment", "source"}
    report = trained / "artifacts/report"
    words = pd.read_csv(report / "words.csv")
    assert set(words["shots"]) == {0, 1, 2}
    assert {arm.split(",")[0] for arm in words["arm"]} == {
        "before: spelling only",
        "after: joint",
        "after: meta",
        "after: untrained",
        "after: as it ships",
    }
    speakers, groups = pd.read_csv(report / "speakers.csv"), pd.read_csv(report / "errors_by.csv")
    assert set(groups["by"]) == {"language", "environment", "source"}
    (language,) = groups[groups["by"] == "language"].to_dict(orient="records")
    assert language["queries"] == speakers["queries"].sum()
    page = (report / "report.html").read_text(encoding="utf-8")
    for part in (
        "30-shot is not measured",
        "Rejection of unknown words and sounds",
        "Confidence calibration",
        "an equal budget",
    ):
        assert part in page
    shutil.rmtree(report)
    evaluate.run(PARAMS, trained)
    assert (report / "report.html").read_text(encoding="utf-8") == page
