"""Drift: samples of the known distribution pass; another channel, level or language is reported by name."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prepared_rows import LIMITS, good_rows

from metavox.params import Validate
from metavox.quality.drift import Drift, judge_drift, profile

MANY = 1200


def recordings(seed: int = 0, rows: int = MANY) -> pd.DataFrame:
    """Rows in two languages and scripts, with measures distributed like those of real recordings."""
    random = np.random.default_rng(seed)
    table = good_rows().sample(rows, replace=True, random_state=seed).reset_index(drop=True)
    russian = random.random(rows) < 0.3
    table["language"] = np.where(russian, "ru", "en")
    table["text"] = np.where(russian, random.choice(["слово", "дом", "вода"], rows), table["text"])
    return table.assign(
        path=[f"{number}.wav" for number in range(rows)],
        content=[f"{number:064x}" for number in range(rows)],
        duration_s=random.lognormal(-0.3, 0.5, rows),
        snr_db=random.normal(25, 8, rows),
        bandwidth_hz=random.choice([3900.0, 7900.0, 15000.0], rows),
        rms_db=random.normal(-20, 3, rows),
        silence=random.beta(1, 8, rows),
    )


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return json.loads(json.dumps(profile(recordings())))


def failed(drift: Drift) -> list[str]:
    return [shift.name for shift in drift.failed]


@pytest.mark.parametrize("rows", [1, 5, 20, 200, MANY])
def test_samples_of_the_same_distribution_are_not_drift(rows: int, known: dict[str, Any]) -> None:
    for seed in range(1, 4):
        found = judge_drift(recordings(seed, rows), known, LIMITS)
        assert found.success, found.failed
        assert found.warnings == []
        assert found.rows == rows


SHIFTS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "telephone": ({"bandwidth_hz": 3900.0}, ["bandwidth_hz"], []),
    "noise": ({"snr_db": lambda rows: rows["snr_db"] - 10}, ["snr_db"], []),
    "level": ({"rms_db": lambda rows: rows["rms_db"] - 6}, ["rms_db"], []),
    "far beyond": ({"snr_db": 1000.0}, ["snr_db"], []),
    "one language of two": ({"language": "ru", "text": "слово"}, ["language", "script"], ["chars_per_s"]),
    "unseen language": ({"language": "cy"}, ["unseen language", "language"], []),
    "letters": ({"text": "ñandú"}, ["unseen letters", "script"], ["chars_per_s"]),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_is_named(name: str, known: dict[str, Any]) -> None:
    changes, expected, also = SHIFTS[name]
    found = judge_drift(recordings(9).assign(**changes), known, LIMITS)
    assert not found.success
    assert set(expected) <= set(failed(found)) <= {*expected, *also}
    for shift in found.failed:
        assert shift.explanation
        assert shift.new != shift.known
        assert "\n" not in shift.explanation + shift.new + shift.known


def test_another_source_or_unit_is_only_a_warning(known: dict[str, Any]) -> None:
    found = judge_drift(recordings(9).assign(source="kitchen", unit="word"), known, LIMITS)
    assert found.success
    assert [shift.name for shift in found.warnings] == ["source", "unit"]


def test_an_unknown_letter_in_one_percent_of_the_texts_is_not_drift(known: dict[str, Any]) -> None:
    rows = recordings(9, 200)
    rows.loc[:1, "text"] = "ñ"
    assert "unseen letters" not in failed(judge_drift(rows, known, LIMITS))


def test_a_looser_limit_lets_more_pass(known: dict[str, Any]) -> None:
    rows = recordings(9).assign(bandwidth_hz=3900.0)
    assert judge_drift(rows, known, Validate(max_drift=5.0)).success


def test_profile_depends_on_the_rows_only(known: dict[str, Any]) -> None:
    rows = recordings().sample(frac=1, random_state=3)
    rows.index = pd.Index(np.zeros(len(rows), int))
    assert json.dumps(profile(rows)) == json.dumps(known)
    assert known["rows"] == MANY
    assert known["words"] == 13
    assert set(known["shares"]["script"]) == {"CYRILLIC", "LATIN"}
    for histogram in known["measures"].values():
        assert sum(histogram["shares"]) == pytest.approx(1, abs=1e-4)
        assert len(histogram["edges"]) == len(histogram["shares"]) + 1


def test_profile_holds_no_row() -> None:
    rows = recordings().assign(text="a secret sentence", speaker="Ann", path="home/ann.wav")
    written = json.dumps(profile(rows))
    assert not any(word in written for word in ("secret", "Ann", "home"))


def test_constant_measures_are_compared_too() -> None:
    rows = recordings().assign(bandwidth_hz=4000.0, silence=0.0)
    known = profile(rows)
    assert judge_drift(rows, known, LIMITS).success
    assert failed(judge_drift(rows.assign(bandwidth_hz=8000.0), known, LIMITS)) == ["bandwidth_hz"]
    assert failed(judge_drift(rows.assign(bandwidth_hz=2000.0), known, LIMITS)) == ["bandwidth_hz"]
    assert failed(judge_drift(rows.assign(silence=0.5), known, LIMITS)) == ["silence"]


def test_undecodable_rows_do_not_count(known: dict[str, Any]) -> None:
    rows = recordings(9, 100)
    rows.loc[:49, "error"] = "is empty"
    rows.loc[:49, "snr_db"] = float("nan")
    assert judge_drift(rows, known, LIMITS).rows == 50
    with pytest.raises(ValueError, match="no recording to compare"):
        judge_drift(rows.assign(error="is empty"), known, LIMITS)


def test_concept_labels_do_not_count_as_spelling(known: dict[str, Any]) -> None:
    """An English concept label has neither the letters nor the speed of the language."""
    rows = recordings(9).assign(text_kind="concept", text="ñ")
    assert judge_drift(rows, known, LIMITS).success
    all_concepts = profile(rows)
    assert (all_concepts["alphabet"], all_concepts["shares"]["script"]) == ("", {})
    assert judge_drift(rows, all_concepts, LIMITS).success
