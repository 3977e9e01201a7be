"""The quality gate finds and names each kind of planted fault, and nothing else."""

import gc
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prepared_rows import LIMITS, good_rows, planted

from metavox.params import Validate
from metavox.quality import REQUIRED, Verdict, judge
from metavox.quality.engine import failed_checks
from metavox.quality.indicators import SCRIPTS, foreign_script, row_indicators
from metavox.quality.suites import row_suite


def names(verdict: Verdict) -> list[str]:
    return [fault.name for fault in verdict.failed]


def test_good_rows_pass_untouched() -> None:
    rows = good_rows()
    verdict = judge(rows, LIMITS)
    assert verdict.success, verdict.failed
    pd.testing.assert_frame_equal(verdict.clean, rows)
    assert verdict.quarantine.empty
    assert verdict.statistics["reasons"] == {}
    assert verdict.statistics["speakers"] == 15
    assert {name: part["rows"] for name, part in verdict.statistics["splits"].items()} == {
        "dev": 30,
        "test": 30,
        "train": 90,
    }


NAN = float("nan")
UNMEASURED = dict.fromkeys(("duration_s", "peak", "rms_db", "dc_offset", "clipping"), NAN)
ROW_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "undecodable": ({"error": "is empty", "sample_rate": 0, **UNMEASURED}, "cannot be decoded: is empty"),
    "unmeasured": ({"snr_db": NAN}, "not measured"),
    "duration": ({"duration_s": 74.2}, "lasts 74.20 s, expected 0.1 to 20 s"),
    "sample rate": ({"sample_rate": 4000}, "sample rate 4000 Hz, expected 8000 to 192000 Hz"),
    "bandwidth": ({"bandwidth_hz": 300.0}, "bandwidth 300 Hz, expected at least 800 Hz"),
    "silence": ({"silence": 0.99}, "0.990 of the recording is silent, expected at most 0.97"),
    "clipping": ({"clipping": 0.23}, "0.230 of the recording is clipped, expected at most 0.05"),
    "dc offset": ({"dc_offset": 0.4}, "DC offset 0.400 of full scale, expected at most 0.15"),
    "noise": ({"snr_db": -3.21}, "signal-to-noise ratio -3.2 dB, expected at least 0 dB"),
    "text missing": ({"text": " ... "}, "text ' ... ' contains no letter or digit"),
    "speaker missing": ({"speaker": ""}, "speaker '' contains no letter or digit"),
    "language missing": ({"language": ""}, "language '' contains no letter or digit"),
    "control character": ({"text": "two\x07"}, r"text 'two\x07' contains a control character"),
    "markup": ({"text": "<b>two</b>"}, "text '<b>two</b>' contains markup"),
    "script": ({"text": "два"}, "text is in CYRILLIC, expected LATIN for language en"),
    "speed": ({"text": "two " * 30}, "characters per second, expected at most 25"),
}


def test_each_fault_of_a_row_is_found_with_its_reason_and_no_other() -> None:
    row_of = {name: 5 * number + 2 for number, name in enumerate(ROW_FAULTS)}
    rows = planted({row_of[name]: ROW_FAULTS[name][0] for name in ROW_FAULTS})
    verdict = judge(rows, LIMITS)
    assert verdict.success, verdict.failed
    found = dict(zip(verdict.quarantine["first_frame"] // 60, verdict.quarantine["reasons"], strict=True))
    assert sorted(found) == sorted(row_of.values())
    for name, (_, reason) in ROW_FAULTS.items():
        assert reason in found[row_of[name]], name
        assert ";" not in found[row_of[name]], f"{name} has one reason: {found[row_of[name]]}"
    assert verdict.statistics["reasons"] == dict.fromkeys(ROW_FAULTS, 1)
    kept = rows.drop(index=list(row_of.values())).reset_index(drop=True)
    pd.testing.assert_frame_equal(verdict.clean, kept)


HARMLESS: list[dict[str, Any]] = [
    {"duration_s": 0.1, "text": "ab"},
    {"duration_s": 20.0},
    {"silence": 0.97},
    {"snr_db": 0.0},
    {"text": "AT&T"},
    {"text": "a < b & c"},
    {"text": "café, naïve Zoë"},
    {"text": "Пётр two lines"},
    {"text": "42"},
    {"text": "слово", "language": "xx"},
    {"text": "ശരി\u200d", "language": "ml"},
    {"text": "ㄊㄢ", "language": "zh"},
    {"text": "dobar dan", "language": "sr@latin"},
    {"text": "hat", "language": "ru", "text_kind": "concept"},
    {"speaker_group": None},
]


def test_unusual_but_valid_rows_pass() -> None:
    quarantine = judge(
        planted({8 * number + 3: row for number, row in enumerate(HARMLESS)}), LIMITS
    ).quarantine
    assert quarantine.empty, quarantine[["text", "reasons"]].to_dict("records")


def test_row_with_several_faults_has_all_its_reasons() -> None:
    verdict = judge(planted({4: {"clipping": 0.5, "dc_offset": 0.5, "text": "a; b &amp;"}}), LIMITS)
    assert len(verdict.quarantine) == 1
    reasons = verdict.quarantine["reasons"][0].split("; ")
    assert [reason.split()[0] for reason in reasons] == ["0.500", "DC", "text"]


def test_undecodable_row_does_not_name_the_machine() -> None:
    path = good_rows()["path"][3]
    rows = planted({3: {"error": f"/some/machine/data/{path}: the file is empty", **UNMEASURED}})
    assert judge(rows, LIMITS).quarantine["reasons"][0] == "cannot be decoded: the file is empty"


def test_same_recording_under_different_texts_is_quarantined_in_all_its_rows() -> None:
    same = {"content": "d" * 64}
    rows = planted({11: same, 12: same, 13: {**same, "text": "Two."}})
    verdict = judge(rows, LIMITS)
    assert list(verdict.quarantine["path"]) == list(rows["path"][11:14])
    assert f"same recording as {rows['path'][12]} under another" in verdict.quarantine["reasons"][0]
    assert f"same recording as {rows['path'][11]} under another" in verdict.quarantine["reasons"][1]


def test_same_recording_under_another_speaker_is_a_contradiction() -> None:
    verdict = judge(planted({11: {"content": "d" * 64}, 21: {"content": "d" * 64}}), LIMITS)
    assert verdict.statistics["reasons"] == {"contradiction": 2}


def test_same_recording_text_and_speaker_keeps_the_first() -> None:
    same = {"content": "d" * 64, "text": "one", "speaker": "speaker-1"}
    rows = planted({11: same, 12: {**same, "text": "One!"}, 13: same})
    verdict = judge(rows, LIMITS)
    assert list(verdict.quarantine["path"]) == list(rows["path"][12:14])
    assert verdict.statistics["reasons"] == {"duplicate": 2}
    assert verdict.quarantine["reasons"][1].endswith(rows["path"][11])


def test_vowel_signs_distinguish_words() -> None:
    """In scripts that write vowels as marks, two words may differ only in a mark."""
    same = {"content": "d" * 64, "language": "ml", "speaker": "speaker-1"}
    verdict = judge(planted({11: {**same, "text": "കാ"}, 12: {**same, "text": "കി"}}), LIMITS)
    assert verdict.statistics["reasons"] == {"contradiction": 2}


def test_recordings_without_a_digest_are_not_duplicates() -> None:
    assert judge(good_rows().assign(content=""), LIMITS).quarantine.empty


def test_digest_of_the_manifest_is_used_if_none_was_measured() -> None:
    rows = planted({11: {"sha256": "d" * 64}, 12: {"sha256": "d" * 64}}).drop(columns="content")
    assert judge(rows, LIMITS).statistics["reasons"] == {"contradiction": 2}


TEST_ROWS, DEV_ROWS = range(120, 150), range(90, 120)
SET_FAULTS: dict[str, tuple[dict[int, dict[str, Any]], str]] = {
    "paths unique": ({31: {"path": good_rows()["path"][30]}}, "3/zero.wav listed more than once"),
    "splits known": ({31: {"split": "training"}}, "split training, expected train, dev, test"),
    "speaker on one split": (
        {120: {"speaker": "speaker-0"}},
        "speaker speaker-0 is in test and train, expected one split",
    ),
    "speaker group on one split": (
        {row: {"speaker_group": "same"} for row in (*range(10), *range(140, 150))},
        "speaker group same is in test and train, expected one split",
    ),
    "synthetic only in train": ({125: {"synthetic": True}}, "synthetic speech in test: shards"),
    "share quarantined": (
        {row: {"clipping": 0.9} for row in range(40)},
        "0.267 of all rows, expected at most 0.2",
    ),
    "splits filled": ({row: {"split": "train"} for row in DEV_ROWS}, "no clean row in split dev"),
    "test speakers": (
        {row: {"speaker": "one"} for row in TEST_ROWS},
        "1 clean test speakers, expected at least 2",
    ),
}
COMPANIONS = {
    "splits known": {"speaker on one split", "speaker group on one split"},
    "speaker on one split": {"speaker group on one split"},
}


@pytest.mark.parametrize("name", SET_FAULTS)
def test_each_fault_of_the_set_fails_the_verdict_by_name(name: str) -> None:
    faults, message = SET_FAULTS[name]
    verdict = judge(planted(faults), LIMITS)
    assert not verdict.success
    assert set(names(verdict)) == {name} | COMPANIONS.get(name, set())
    fault = next(fault for fault in verdict.failed if fault.name == name)
    assert message in fault.explanation
    assert "\n" not in fault.explanation


def test_split_emptied_by_the_quarantine_counts_as_empty() -> None:
    verdict = judge(planted({row: {"silence": 1.0} for row in TEST_ROWS}), LIMITS)
    assert names(verdict) == ["splits filled", "test speakers"]
    assert verdict.failed[0].explanation == "no clean row in split test"


def test_test_speakers_of_one_speaker_group_count_once() -> None:
    assert names(judge(planted({row: {"speaker_group": "same"} for row in TEST_ROWS}), LIMITS)) == [
        "test speakers"
    ]


@pytest.mark.parametrize("column", REQUIRED)
def test_missing_column_is_named(column: str) -> None:
    verdict = judge(good_rows().drop(columns=column), LIMITS)
    assert [(fault.name, fault.explanation) for fault in verdict.failed] == [
        ("columns present", f"the prepared manifest has no column {column}")
    ]


def test_table_without_rows_is_named() -> None:
    assert names(judge(good_rows().iloc[:0], LIMITS)) == ["rows present"]


def test_table_of_bad_rows_only_gets_a_verdict() -> None:
    verdict = judge(good_rows().assign(clipping=1.0), LIMITS)
    assert names(verdict) == ["share quarantined", "splits filled", "test speakers"]
    assert len(verdict.quarantine) == 150


def test_order_and_index_of_the_rows_do_not_matter() -> None:
    rows = planted({7: {"clipping": 0.9}, 99: {"dc_offset": 0.9}}).sample(frac=1, random_state=5)
    rows.index = pd.Index(np.zeros(len(rows), int))
    verdict = judge(rows, LIMITS)
    reasons = dict(zip(verdict.quarantine["first_frame"] // 60, verdict.quarantine["reasons"], strict=True))
    assert "clipped" in reasons[7]
    assert "offset" in reasons[99]
    assert len(verdict.clean) == 148


def test_judging_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    judge(good_rows(), LIMITS)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_the_table_is_not_kept_in_memory() -> None:
    table = row_indicators(good_rows())
    kept = weakref.ref(table)
    assert failed_checks(table, "recordings", row_suite(LIMITS))[0] == []
    del table
    gc.collect()
    assert kept() is None


def test_limits_apply() -> None:
    rows = planted({7: {"clipping": 0.2}})
    assert judge(rows, Validate(max_clipping=0.3)).quarantine.empty
    assert judge(rows, Validate(max_clipping=0.1)).statistics["reasons"] == {"clipping": 1}


@pytest.mark.parametrize("language", SCRIPTS)
def test_every_language_rejects_a_foreign_script(language: str) -> None:
    foreign = "அம்மா" if language != "ta" else "words"
    assert foreign_script(foreign, language) == ("TAMIL" if language != "ta" else "LATIN")
    assert foreign_script("123 ...", language) is None
