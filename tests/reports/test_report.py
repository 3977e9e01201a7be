"""The model report as a browser reads it: complete, self-contained, and clear about what did not help."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from pages import HOSTILE, Page, assert_inert
from sample_trials import trials

from metavox.metrics.attribution import Attribution
from metavox.metrics.open_set import open_set
from metavox.metrics.rates import Interval, character_errors, mean_interval, word_errors
from metavox.metrics.slices import slices
from metavox.reports import charts
from metavox.reports.charts import Chart
from metavox.reports.model import write_report
from metavox.reports.model.words import Shown
from metavox.reports.pictures import Course, Decision, plane
from metavox.reports.wording import findings, verdicts

pytestmark = pytest.mark.usefixtures("coarse_charts")
ACCURACY = {"untrained": 0.3, "joint": 0.8, "meta": 0.81}


@pytest.fixture(scope="module")
def words() -> pd.DataFrame:
    """The table of the evaluate stage, from episodes drawn here."""
    random = np.random.default_rng(0)
    rows = []
    for task in ("10 words, cross-speaker", "10 words, same-speaker"):
        rows.append(_row(task, 0, "before: spelling only", random.binomial(20, 0.4, 100) / 20))
        for shots in (1, 5):
            for arm, chance in ACCURACY.items():
                for method in ("prototypes", "head"):
                    hits = random.binomial(20, min(0.99, chance + 0.02 * shots), 100) / 20
                    rows.append(_row(task, shots, f"after: {arm}, {method}", hits))
    return pd.DataFrame(rows)


def _row(task: str, shots: int, arm: str, hits: np.ndarray) -> dict[str, Any]:
    found = mean_interval(hits)
    measures = ("accuracy", "precision", "recall", "f1")
    values = {k: v for m in measures for k, v in ((m, found.mean), (f"{m}_ci95", found.ci95))}
    ends = {"low": found.mean - found.ci95, "high": found.mean + found.ci95}
    return {"task": task, "shots": shots, "arm": arm, "episodes": len(hits), **values, **ends}


@pytest.fixture(scope="module")
def speakers() -> pd.DataFrame:
    references = ["open the <door>", "close the window", "what is the time"] * 5
    hypotheses = {"before": ["open a dor", "clos te window", "what isa tim"] * 5, "after": references}
    rows = []
    for i, speaker in enumerate(("anna", "bert")):
        row: dict[str, Any] = {"speaker": speaker, "language": "en", "queries": len(references)}
        for when, transcripts in hypotheses.items():
            for measure, errors in (("cer", character_errors), ("wer", word_errors)):
                found = errors(references, transcripts[i:] + transcripts[:i]).interval()
                row |= {f"{measure}_{when}": found.mean, f"{measure}_{when}_ci95": found.ci95}
        rows.append(
            {**row, "reference": references[0], "transcript_before": "", "transcript_after": references[0]}
        )
    return pd.DataFrame(rows)


def headline(cer_after: float = 0.2, ci95: float = 0.02) -> dict[str, Any]:
    def pair(before: float, after: float) -> dict[str, dict[str, float]]:
        return {"before": Interval(before, ci95).as_dict(), "after": Interval(after, ci95).as_dict()}

    rates = {name: pair(0.4, 0.9) for name in ("accuracy", "precision", "recall", "f1")}
    about = {"task": "10 words, same-speaker", "shots": 5, "arm": "after: meta, head"}
    return {**about, **rates, "cer": pair(0.3, cer_after), "wer": pair(0.7, 0.6)}


def fill(artifacts: Path) -> None:
    """The artifacts of other stages."""
    (artifacts / "plots").mkdir(parents=True)
    (artifacts / "metrics").mkdir()
    samples = artifacts / "environments/samples"
    samples.mkdir(parents=True)
    steps = pd.DataFrame({"step": range(50), "loss": np.linspace(2, 1, 50)})
    steps.to_csv(artifacts / "plots/pretrain.csv", index=False)
    both = [steps.assign(arm=arm, ctc=steps["loss"] + i) for i, arm in enumerate(("joint", "meta"))]
    pd.concat(both).to_csv(artifacts / "plots/metatrain.csv", index=False)
    tone = 0.1 * np.sin(np.arange(8000) / 5)
    for kind in ("clean", "environment"):
        soundfile.write(samples / f"0-{kind}.wav", tone, 16000)
    (samples / "0.png").write_bytes(Chart(lambda figure: None, 1.0, "").png())
    found = {"clean": 90, "rows": 100, "quarantined": 10, "hours": 1.5, "speakers": 9, "languages": 3}
    reasons = {"reasons": {"clipping": 7, "too short": 3}}
    (artifacts / "metrics/validate.json").write_text(json.dumps({**found, **reasons}))
    (artifacts / "metrics/augment.json").write_text(json.dumps({"collapsed": True}))


GATE = {"passed": True, "reason": "accuracy 0.900 after adaptation, at least 0.5 was asked for"}


def report(folder: Path, words: pd.DataFrame, speakers: pd.DataFrame, **changed: Any) -> Page:
    out = folder / "report.html"
    write_report(
        out, folder / "artifacts", words, speakers, **{"figures": headline(), "verdict": GATE, **changed}
    )
    return Page(out.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Whole:
    """A report with the artifacts of all stages and the errors of one language."""

    text: str
    page: Page


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, words: pd.DataFrame, speakers: pd.DataFrame) -> Whole:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "DPI", charts.DPI // 3)  # as coarse_charts does
        return write_whole(tmp_path_factory.mktemp("whole"), words, speakers)


def write_whole(folder: Path, words: pd.DataFrame, speakers: pd.DataFrame) -> Whole:
    fill(folder / "artifacts")
    rates = {f"{rate}_{when}": 0.25 for rate in ("cer", "wer") for when in ("before", "after")}
    intervals = {f"{name}_ci95": 0.01 for name in rates}
    group = {"by": "language", "value": "lt", "speakers": 2, "queries": 30, **rates, **intervals}
    page = report(folder, words, speakers, groups=pd.DataFrame([group]))
    return Whole((folder / "report.html").read_text(encoding="utf-8"), page)


def test_whole_report_loads_nothing_and_reads_well(whole: Whole) -> None:
    page = whole.page
    assert all(source.startswith("data:") for source in page.loads)
    assert "://" not in whole.text
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert page.tags.count("audio") == 2
    assert page.tags.count("picture") == 7, "two tasks by arm and by shots, speakers, two curves"
    assert all(page.alts)
    for part in ("The gate passed.", "40.0 ± 2.0", "90.0 ± 2.0", "open the <door>", "(nothing)", "too short"):
        assert part in page.text
    assert "There is no training curve for this stage." in page.text, "the GAN's and adaptation's"
    assert "90 of 100 recordings passed the quality gate" in page.text


def queries(speakers: np.ndarray, guess: str, column: str = "speaker") -> Shown:
    """All that the report shows about words, from queries of 47 recordings."""
    found, random = trials(), np.random.default_rng(0)
    opened = open_set(found)
    cells = torch.from_numpy(random.normal(size=(40, 16)).astype(np.float32))
    return Shown(
        "5 recordings of each word",
        found,
        opened,
        0.01,
        plane(random.normal(size=(80, 8)), np.arange(80).astype(str), np.full(80, guess)),
        Course((0, 5), [Interval(1.0, 0.1), Interval(0.5, 0.1)], [Interval(0.8, 0.1), Interval(0.9, 0.1)]),
        (Decision(0, "yes", guess, 0.7, Attribution(cells, cells, 3.0, 1.0)),),
        {column: slices(found, speakers, opened)},
    )


def test_charts_behind_the_figures_are_shown_and_small_slices_are_marked(
    tmp_path: Path, words: pd.DataFrame, speakers: pd.DataFrame
) -> None:
    shown = queries(np.array(["anna"] * 25 + ["bert"] * 17 + ["eve"] * 5), "no <maybe>")
    page = report(tmp_path, words, speakers, shown=shown, notes=["20-shot is not measured"])
    assert page.tags.count("picture") == 5 + 7, (
        "two tasks by arm and by shots, speakers; course, confusion, plane, reliability, DET, decision, slice"
    )
    assert all(page.alts)
    for part in (
        "yes, recognised as no <maybe> with 70% confidence (wrong: the word is yes)",
        "Too few recordings to measure: eve (5 recordings",
        "20-shot is not measured",
        "accepted recordings without speech, %",
    ):
        assert part in page.text


def test_errors_are_listed_by_language_and_source(whole: Whole) -> None:
    assert "By language, environment and source" in whole.page.text
    assert whole.page.text.count("25.0\u00a0±\u00a01.0") == 4


def test_hostile_labels_names_and_transcripts_are_inert(
    tmp_path: Path, words: pd.DataFrame, speakers: pd.DataFrame
) -> None:
    fill(tmp_path / "artifacts")
    counts = {"clean": 90, "rows": 100, "quarantined": 10, "hours": 1.5, "speakers": 9, "languages": 3}
    for stage, found in (
        ("validate", {**counts, "reasons": {HOSTILE: 10}}),
        ("metatrain", {"chosen": HOSTILE, "steps": {HOSTILE: 5}}),
    ):
        (tmp_path / f"artifacts/metrics/{stage}.json").write_text(json.dumps(found))
    rates = [f"{rate}_{when}" for rate in ("cer", "wer") for when in ("before", "after")]
    groups = pd.DataFrame([{"by": HOSTILE, "value": HOSTILE, "speakers": 2, "queries": 30}])
    texts = ("speaker", "language", "reference", "transcript_before", "transcript_after")
    report(
        tmp_path,
        words.assign(task=HOSTILE, arm=words["arm"].str.replace("meta", HOSTILE, regex=False)),
        speakers.assign(**dict.fromkeys(texts, HOSTILE)),
        figures={**headline(), "task": HOSTILE, "arm": HOSTILE},
        verdict={"passed": False, "reason": HOSTILE},
        shown=queries(np.array([HOSTILE] * 30 + [f"{HOSTILE} too"] * 17), HOSTILE, HOSTILE),
        groups=groups.assign(**dict.fromkeys([*rates, *(f"{name}_ci95" for name in rates)], 0.1)),
        notes=[HOSTILE],
    )
    assert_inert((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_the_same_input_gives_the_same_bytes(
    whole: Whole, tmp_path: Path, words: pd.DataFrame, speakers: pd.DataFrame
) -> None:
    assert write_whole(tmp_path, words, speakers).text == whole.text


def test_the_report_says_what_did_not_beat_its_baseline(
    whole: Whole, words: pd.DataFrame, speakers: pd.DataFrame
) -> None:
    text = whole.page.text
    assert "Meta-learning did not beat joint training on the same budget" in text
    assert "Training beat the same network without training in all 16 comparisons" in text
    assert "Adaptation to a speaker helped (-10.0 points" in text
    assert "The GAN collapsed" in text
    for sentence in (*findings(words, speakers, headline()), *verdicts(words, headline())):
        assert sentence in text
    better = words.assign(shift=np.where(words["arm"].str.contains("meta"), 0.2, 0.0))
    for column in ("accuracy", "low", "high"):
        better[column] += better["shift"]
    sentences = verdicts(better, headline())
    assert "Meta-learning beat joint training on the same budget in all 8" in " ".join(sentences)
    for after, reason in ((0.29, "the intervals overlap"), (0.5, "errors increased")):
        sentences = verdicts(words, headline(after))
        assert f"Adaptation to a speaker did not help: {reason}" in " ".join(sentences)
    assert "do not use it for dictation" in " ".join(findings(words, speakers, headline(0.5)))


def test_missing_inputs_are_named(tmp_path: Path, words: pd.DataFrame, speakers: pd.DataFrame) -> None:
    gate = {"passed": False, "reason": "accuracy 0.1 is too low"}
    page = report(tmp_path, words, speakers.iloc[:0], verdict=gate)
    for part in (
        "The gate failed. accuracy 0.1",
        "no samples",
        "no validation summary",
        "No held-out speaker",
        "no example transcripts",
    ):
        assert part in page.text
    assert page.text.count("There is no training curve for this stage.") == 4
