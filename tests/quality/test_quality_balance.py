"""Warnings about the balance of labels and speakers, and the gate's verdicts on single rows and on a set."""

from typing import Any

import pandas as pd
import pytest
from prepared_rows import LIMITS, good_rows, planted

from metavox.dataset.manifest import COLUMNS
from metavox.params import Validate
from metavox.quality import Fault, judge, judge_rows, judge_set


def explanations(warnings: list[Fault]) -> dict[str, str]:
    return {warning.name: warning.explanation for warning in warnings}


def labelled(counts: dict[str, int], **columns: Any) -> pd.DataFrame:
    """The good rows, and `counts` clips of each label as a separate source in train."""
    words = [word for word, count in counts.items() for _ in range(count)]
    rows = good_rows().iloc[[0] * len(words)].assign(text=words, source="commands", unit="word", **columns)
    rows["path"] = [f"commands/{index}.wav" for index in range(len(words))]
    rows["content"] = [f"c{index:063x}" for index in range(len(words))]
    return pd.concat([good_rows(), rows], ignore_index=True)


def test_a_dominant_label_is_a_warning_not_an_error() -> None:
    verdict = judge(labelled({"yes": 95, "no": 5}), LIMITS)
    assert verdict.success
    assert verdict.quarantine.empty
    assert explanations(verdict.warnings) == {
        "label share": "'yes' is 95 of the 100 commands en word clips; expected at most 0.7 for one label"
    }


@pytest.mark.parametrize(
    "counts",
    [
        {"yes": 60, "no": 40},
        {"yes": 14, "no": 1},
        {"wake up": 200},
        {**dict.fromkeys(("on", "off", "up", "down"), 20), "stop": 60},
        {f"a sentence number {number}": 1 for number in range(50)},
    ],
    ids=["two of three", "too few to say", "only one label", "five words", "ordinary speech"],
)
def test_sets_that_are_not_unbalanced(counts: dict[str, int]) -> None:
    assert judge(labelled(counts), LIMITS).warnings == []


def test_spelling_variants_count_as_one_label() -> None:
    assert "label share" in explanations(judge(labelled({"Yes!": 40, "yes": 55, "no": 5}), LIMITS).warnings)


def test_a_rare_label_of_another_set_does_not_hide_an_unbalanced_one() -> None:
    rows = labelled({"yes": 95, "no": 5})
    more = rows[rows["source"] == "test"]
    many = pd.concat(
        [rows, *(more.assign(path=more["path"] + str(n), content=f"{n}" + more["content"]) for n in range(5))]
    )
    assert "label share" in explanations(judge(many, LIMITS).warnings)


def test_language_with_one_speaker_is_a_warning() -> None:
    rows = planted({row: {"language": "nl"} for row in range(10)})
    verdict = judge(rows, LIMITS)
    assert verdict.success
    assert explanations(verdict.warnings) == {"language with one speaker": "nl has 1, expected at least 2"}
    grouped = rows.assign(speaker_group=["same" if index < 20 else "" for index in range(150)])
    grouped.loc[range(20), "language"] = "nl"
    assert "language with one speaker" in explanations(judge(grouped, LIMITS).warnings), (
        "two names, one group"
    )


def test_synthetic_speakers_do_not_replace_recorded_ones() -> None:
    rows = planted({row: {"language": "nl", "synthetic": row >= 10} for row in range(30)})
    assert "language with one speaker" in explanations(judge(rows, LIMITS).warnings)
    rows.loc[range(30), "synthetic"] = True
    assert judge(rows, LIMITS).warnings == [], "a fully synthetic language has three synthetic speakers"
    rows.loc[range(30), "speaker"] = "speaker-0"
    assert "language with one speaker" in explanations(judge(rows, LIMITS).warnings)


def test_fewer_speakers_than_the_limit_is_an_error() -> None:
    rows = planted({row: {"language": "nl"} for row in range(20)})
    verdict = judge(rows, Validate(min_language_speakers=3))
    assert [(fault.name, fault.explanation) for fault in verdict.failed] == [
        ("language speakers", "nl has 2, expected at least 3")
    ]
    assert verdict.warnings == []


def test_single_rows_get_the_reasons_of_the_verdict_in_their_order() -> None:
    rows = planted({3: {"clipping": 0.5, "text": "<b>x</b>"}, 8: {"duration_s": 99.0}}).sample(
        frac=1, random_state=1
    )
    reasons = judge_rows(rows, LIMITS)
    verdict = judge(rows, LIMITS)
    assert len(reasons) == len(rows)
    assert ["; ".join(row) for row in reasons if row] == list(verdict.quarantine["reasons"])
    assert [path for path, row in zip(rows["path"], reasons, strict=True) if row] == list(
        verdict.quarantine["path"]
    )
    assert judge_rows(rows.iloc[:0], LIMITS) == []
    with pytest.raises(ValueError, match="no column error"):
        judge_rows(rows.drop(columns="error"), LIMITS)


def test_set_is_judged_without_measures() -> None:
    rows = labelled({"yes": 95, "no": 5})[list(COLUMNS)]
    assert judge_set(rows[rows["source"] == "test"], LIMITS) == ([], [])
    faults, warnings = judge_set(rows, LIMITS)
    assert (faults, list(explanations(warnings))) == ([], ["label share"])
    rows.loc[149, "speaker"] = "speaker-0"
    assert [fault.name for fault in judge_set(rows, LIMITS)[0]] == [
        "speaker on one split",
        "speaker group on one split",
    ]
    assert [fault.name for fault in judge_set(rows.drop(columns="unit"), LIMITS)[0]] == ["columns present"]
    assert [fault.name for fault in judge_set(rows.iloc[:0], LIMITS)[0]] == ["rows present"]


def test_quarantine_names_the_failed_checks_beside_the_reasons() -> None:
    quarantine = judge(planted({4: {"clipping": 0.5, "text": "a &amp;"}}), LIMITS).quarantine
    assert quarantine["checks"][0].split("; ") == ["clipping", "markup"]
