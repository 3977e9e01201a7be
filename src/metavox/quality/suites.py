"""The expectation suites: of the table, of each recording, of the whole set, and of the rows that remain clean."""

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
FEW_SPEAKERS = 2  # a single speaker says nothing about other speakers of the language
# Control characters with newline, U+FFFD from wrong decoding, and direction marks; joiners belong to some scripts.
CONTROLS = r"[\x00-\x1f\x7f-\x9f\ufffd\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069]"
MARKUP = r"</?[A-Za-z][^>]*>|<!--|&(?:[A-Za-z]+|#\d+|#x[0-9A-Fa-f]+);"


def table_suite(rows: pd.DataFrame, required: list[str]) -> list[Check]:
    gxe = expectations()
    missing = ", ".join(name for name in required if name not in rows.columns)
    return [
        Check(
            "columns present",
            gxe.ExpectTableColumnsToMatchSet(column_set=required, exact_match=False),
            lambda bad: f"the prepared manifest has no column {missing}",
        ),
        Check(
            "rows present",
            gxe.ExpectTableRowCountToBeBetween(min_value=1),
            lambda bad: "the prepared manifest has no rows, expected at least 1",
        ),
    ]


def row_suite(limits: Validate) -> list[Check]:
    gxe = expectations()

    def between(name: str, column: str, low: float | None, high: float | None, message: str) -> Check:
        expectation = gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)
        return Check(name, expectation, lambda row: message.format(row[column], low=low, high=high))

    def absent(name: str, column: str, explain: Callable[[Any], str]) -> Check:
        return Check(name, gxe.ExpectColumnValuesToBeNull(column=column), explain)

    def present(column: str) -> Check:
        expectation = gxe.ExpectColumnValuesToMatchRegex(column=column, regex=r"\w")
        return Check(
            f"{column} missing",
            expectation,
            lambda row: f"{column} {row[column]!r} contains no letter or digit",
        )

    no_match = gxe.ExpectColumnValuesToNotMatchRegex
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
            "bandwidth {:.0f} Hz, expected at least {low:g} Hz",
        ),
        between(
            "silence",
            "silence",
            None,
            limits.max_silence,
            "{:.3f} of the recording is silent, expected at most {high:g}",
        ),
        between(
            "clipping",
            "clipping",
            None,
            limits.max_clipping,
            "{:.3f} of the recording is clipped, expected at most {high:g}",
        ),
        between(
            "dc offset",
            "dc_offset",
            None,
            limits.max_dc_offset,
            "DC offset {:.3f} of full scale, expected at most {high:g}",
        ),
        between(
            "noise",
            "snr_db",
            limits.min_snr_db,
            None,
            "signal-to-noise ratio {:.1f} dB, expected at least {low:g} dB",
        ),
        present("text"),
        present("speaker"),
        present("language"),
        Check(
            "control character",
            no_match(column="text", regex=CONTROLS),
            lambda row: f"text {row['text']!r} contains a control character",
        ),
        Check(
            "markup",
            no_match(column="text", regex=MARKUP),
            lambda row: f"text {row['text']!r} contains markup",
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
            "{:.1f} characters per second, expected at most {high:g}",
        ),
        absent(
            "contradiction",
            "contradicts",
            lambda row: f"same recording as {row['contradicts']} under another text or speaker",
        ),
        absent(
            "duplicate",
            "duplicate_of",
            lambda row: f"same recording, text and speaker as {row['duplicate_of']}",
        ),
    ]


def set_suite() -> list[Check]:
    """Checks of all rows: quarantining a row does not repair a set that was put together wrongly."""
    gxe = expectations()

    def in_one_split(name: str, identity: str, title: str) -> Check:
        return Check(
            name,
            gxe.ExpectColumnValuesToBeBetween(column=f"{identity}_splits", max_value=1),
            lambda bad: (
                f"{title} {first_few(bad[identity] + ' is in ' + bad[f'{identity}_split_names'])}, "
                "expected one split"
            ),
        )

    return [
        Check(
            "paths unique",
            gxe.ExpectColumnValuesToBeUnique(column="path"),
            lambda bad: f"{first_few(bad['path'])} listed more than once",
        ),
        Check(
            "splits known",
            gxe.ExpectColumnValuesToBeInSet(column="split", value_set=SPLITS),
            lambda bad: f"split {first_few(bad['split'])}, expected {', '.join(SPLITS)}",
        ),
        in_one_split("speaker on one split", "speaker", "speaker"),
        in_one_split("speaker group on one split", "group", "speaker group"),
        Check(
            "synthetic only in train",
            gxe.ExpectColumnValuesToBeInSet(column="synthetic_split", value_set=["train"]),
            lambda bad: f"synthetic speech in {first_few(bad['split'])}: {first_few(bad['path'])}",
        ),
    ]


def balance_suite(limits: Validate) -> list[Check]:
    """Enough speakers of each language, and no label that dominates its set, which is only a warning."""
    gxe = expectations()
    between = gxe.ExpectColumnValuesToBeBetween
    least = limits.min_language_speakers

    def few(expected: int) -> Callable[[Any], str]:
        return lambda bad: (
            f"{first_few(bad['language'] + ' has ' + bad['language_speakers'].astype(int).astype(str))}, "
            f"expected at least {expected}"
        )

    checks = [
        Check("language speakers", between(column="language_speakers", min_value=least), few(least)),
        Check(
            "label share",
            between(column="label_share", max_value=limits.max_label_share, severity="warning"),
            lambda bad: (
                f"{first_few(bad['label_summary'])}; expected at most {limits.max_label_share:g} for one label"
            ),
        ),
    ]
    if least < FEW_SPEAKERS:
        several = between(column="language_speakers", min_value=FEW_SPEAKERS, severity="warning")
        checks.append(Check("language with one speaker", several, few(FEW_SPEAKERS)))
    return checks


def share_suite(share: float, limits: Validate) -> list[Check]:
    """A check of all rows once the bad ones are known. `share` is theirs of all rows."""
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
    speakers = clean["test_group"].nunique()
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
                column="test_group", min_value=limits.min_test_speakers
            ),
            lambda bad: f"{speakers} clean test speakers, expected at least {limits.min_test_speakers}",
        ),
    ]


def first_few(values: pd.Series, limit: int = 3) -> str:
    """The first different values and how many more there are, as text."""
    names = list(dict.fromkeys(str(value) for value in values))
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
