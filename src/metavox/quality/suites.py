"""The suites, in code: what is expected of the table, of a recording, of the set, and of what is left of it."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from metavox.dataset.manifest import COLUMNS
from metavox.params import Validate
from metavox.quality.engine import Check, expectations
from metavox.quality.indicators import LEVELS, expected_scripts

REQUIRED = [*COLUMNS, *LEVELS, "error"]
SPLITS = ["train", "dev", "test"]
SAMPLE_RATES_HZ = (8000, 192000)
FEW_SPEAKERS = 2  # fewer of a language say nothing about anyone else who speaks it
# Controls, newline too, the sign of a wrong decoding, direction marks; joiners are part of some scripts.
CONTROLS = r"[\x00-\x1f\x7f-\x9f\ufffd\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069]"
MARKUP = r"</?[A-Za-z][^>]*>|<!--|&(?:[A-Za-z]+|#\d+|#x[0-9A-Fa-f]+);"


def table_suite(rows: pd.DataFrame, required: list[str]) -> list[Check]:
    gxe = expectations()
    missing = ", ".join(name for name in required if name not in rows.columns)
    return [
        Check(
            "columns present",
            gxe.ExpectTableColumnsToMatchSet(column_set=required, exact_match=False),
            lambda bad: f"no column {missing} in the prepared manifest",
        ),
        Check(
            "rows present",
            gxe.ExpectTableRowCountToBeBetween(min_value=1),
            lambda bad: "no row in the prepared manifest, expected at least 1",
        ),
    ]


def row_suite(limits: Validate) -> list[Check]:
    gxe = expectations()

    def between(name: str, column: str, low: float | None, high: float | None, told: str) -> Check:
        expectation = gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)
        return Check(name, expectation, lambda row: told.format(row[column], low=low, high=high))

    def absent(name: str, column: str, tell: Callable[[Any], str]) -> Check:
        return Check(name, gxe.ExpectColumnValuesToBeNull(column=column), tell)

    def written(column: str) -> Check:
        expectation = gxe.ExpectColumnValuesToMatchRegex(column=column, regex=r"\w")
        return Check(f"{column} missing", expectation, lambda row: f"{column} {row[column]!r} names nothing")

    unlike = gxe.ExpectColumnValuesToNotMatchRegex
    low_hz, high_hz = SAMPLE_RATES_HZ
    return [
        absent(
            "undecodable",
            "error",
            lambda row: f"cannot be decoded: {row['error'].split(row['path'] + ': ')[-1]}",
        ),
        absent("unmeasured", "unmeasured", lambda row: "was decoded but not measured, run prepare again"),
        between(
            "duration",
            "duration_s",
            limits.min_duration_s,
            limits.max_duration_s,
            "lasts {:.2f} s, expected {low:g} to {high:g} s",
        ),
        between(
            "sample rate",
            "sample_rate",
            low_hz,
            high_hz,
            "sample rate {:.0f} Hz, expected {low:g} to {high:g} Hz",
        ),
        between(
            "bandwidth",
            "bandwidth_hz",
            limits.min_bandwidth_hz,
            None,
            "sound reaches up to {:.0f} Hz, expected at least {low:g} Hz",
        ),
        between(
            "silence",
            "silence",
            None,
            limits.max_silence,
            "{:.3f} of it is silent, expected at most {high:g}",
        ),
        between(
            "clipping",
            "clipping",
            None,
            limits.max_clipping,
            "{:.3f} of it is clipped, expected at most {high:g}",
        ),
        between(
            "dc offset",
            "dc_offset",
            None,
            limits.max_dc_offset,
            "constant offset {:.3f} of full scale, expected at most {high:g}",
        ),
        between(
            "noise",
            "snr_db",
            limits.min_snr_db,
            None,
            "signal to noise {:.1f} dB, expected at least {low:g} dB",
        ),
        written("text"),
        written("speaker"),
        written("language"),
        Check(
            "control character",
            unlike(column="text", regex=CONTROLS),
            lambda row: f"text {row['text']!r} holds a control character",
        ),
        Check(
            "markup", unlike(column="text", regex=MARKUP), lambda row: f"text {row['text']!r} holds markup"
        ),
        absent(
            "script",
            "foreign_script",
            lambda row: (
                f"text is in {row['foreign_script']}, "
                f"expected {expected_scripts(row['language'])} for language {row['language']}"
            ),
        ),
        between(
            "speed",
            "chars_per_s",
            None,
            limits.max_chars_per_s,
            "{:.1f} characters a second, expected at most {high:g}",
        ),
        absent(
            "contradiction",
            "contradicts",
            lambda row: f"same recording as {row['contradicts']} under another text or speaker",
        ),
        absent("duplicate", "twin", lambda row: f"same recording, text and speaker as {row['twin']}"),
    ]


def set_suite() -> list[Check]:
    """About all rows: a fault in how the set was put together is not cured by quarantining its row."""
    gxe = expectations()
    once = gxe.ExpectColumnValuesToBeBetween
    return [
        Check(
            "paths unique",
            gxe.ExpectColumnValuesToBeUnique(column="path"),
            lambda bad: f"{some(bad['path'])} listed more than once",
        ),
        Check(
            "splits known",
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=SPLITS),
            lambda bad: f"split {some(bad['split'])}, expected {', '.join(SPLITS)}",
        ),
        Check(
            "speaker on one split",
            once(column="speaker_splits", max_value=1),
            lambda bad: f"speaker {some(bad['speaker'] + ' is in ' + bad['speaker_sides'])}, expected one",
        ),
        Check(
            "speaker group on one split",
            once(column="who_splits", max_value=1),
            lambda bad: f"person {some(bad['who'] + ' is in ' + bad['who_sides'])}, expected one",
        ),
        Check(
            "synthetic only in train",
            gxe.ExpectColumnValuesToBeInSet(column="synthetic_split", value_set=["train"]),
            lambda bad: f"synthetic speech in {some(bad['split'])}: {some(bad['path'])}",
        ),
    ]


def balance_suite(limits: Validate) -> list[Check]:
    """Enough speakers of each language; and no label that drowns the others, which is for a person to weigh."""
    gxe = expectations()
    between = gxe.ExpectColumnValuesToBeBetween
    least = limits.min_language_speakers

    def few(expected: int) -> Callable[[Any], str]:
        return lambda bad: (
            f"{some(bad['language'] + ' has ' + bad['language_speakers'].astype(int).astype(str))}, "
            f"expected at least {expected}"
        )

    checks = [
        Check("language speakers", between(column="language_speakers", min_value=least), few(least)),
        Check(
            "label share",
            between(column="label_share", max_value=limits.max_label_share, severity="warning"),
            lambda bad: (
                f"{some(bad['label_told'])}; expected at most {limits.max_label_share:g} for one label"
            ),
        ),
    ]
    if least < FEW_SPEAKERS:
        lone = between(column="language_speakers", min_value=FEW_SPEAKERS, severity="warning")
        checks.append(Check("language with one speaker", lone, few(FEW_SPEAKERS)))
    return checks


def share_suite(share: float, limits: Validate) -> list[Check]:
    """About all rows, once the bad ones are known: their `share`."""
    gxe = expectations()
    return [
        Check(
            "share quarantined",
            gxe.ExpectColumnMeanToBeBetween(column="quarantined", max_value=limits.max_quarantined),
            lambda bad: f"{share:.3f} of all rows, expected at most {limits.max_quarantined:g}",
        ),
    ]


def clean_suite(clean: pd.DataFrame, limits: Validate) -> list[Check]:
    gxe = expectations()
    speakers = clean["test_who"].nunique()
    empty = ", ".join(split for split in SPLITS if split not in set(clean["split"]))
    return [
        Check(
            "splits filled",
            gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=SPLITS),
            lambda bad: f"no clean row in split {empty}",
        ),
        Check(
            "test speakers",
            gxe.ExpectColumnUniqueValueCountToBeBetween(
                column="test_who", min_value=limits.min_test_speakers
            ),
            lambda bad: f"{speakers} clean test speakers, expected at least {limits.min_test_speakers}",
        ),
    ]


def some(values: pd.Series, most: int = 3) -> str:
    names = list(dict.fromkeys(str(value) for value in values))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
