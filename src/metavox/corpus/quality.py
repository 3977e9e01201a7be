"""The gate between recorded and trusted: Great Expectations decides, row by row and for the whole set.

A row that fails goes to the quarantine with every reason; a fault of the whole set fails the verdict.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from metavox.corpus.manifest import COLUMNS
from metavox.corpus.symptoms import LEVELS, expected_scripts, symptoms
from metavox.params import Validate

REQUIRED = [*COLUMNS, *LEVELS, "error"]
SPLITS = ["train", "dev", "test"]
SAMPLE_RATES_HZ = (8000, 192000)
# Controls, newline too, the sign of a wrong decoding, direction marks; joiners are part of some scripts.
CONTROLS = "[\x00-\x1f\x7f-\x9f\ufffd\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069]"
MARKUP = r"</?[A-Za-z][^>]*>|<!--|&(?:[A-Za-z]+|#\d+|#x[0-9A-Fa-f]+);"


@dataclass(frozen=True)
class Fault:
    """An expectation about the whole set that did not hold."""

    name: str
    explanation: str  # one line: what was found, what was expected


@dataclass(frozen=True)
class Verdict:
    success: bool  # no fault of the whole set; quarantined rows alone do not fail it
    failed: list[Fault]
    clean: pd.DataFrame  # the rows to learn from, columns as they came
    quarantine: pd.DataFrame  # the other rows, and `reasons`: sentences joined by "; "
    statistics: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One expectation, and how to tell a person what did not hold: of a row, or of the bad rows."""

    name: str
    expectation: Any
    tell: Callable[[Any], str]


def judge(rows: pd.DataFrame, limits: Validate) -> Verdict:
    """Judge a prepared manifest: the corpus manifest's columns, the measures, `error` and, for
    duplicates, `content`: the digest of the recording, or else the manifest's `sha256`.

    Rows are never dropped: each is in `clean` or in `quarantine`. When columns are missing or there is no
    row, nothing else can be judged, and both are empty.
    """
    failed = _faults(rows, _shape_checks(rows))
    if failed:
        nothing = rows.iloc[:0]
        statistics = _statistics(rows, nothing, Counter())
        return Verdict(False, failed, nothing, nothing.assign(reasons=""), statistics)
    rows = rows.reset_index(drop=True)
    table = symptoms(rows)
    reasons: dict[int, list[str]] = {}
    counts: Counter[str] = Counter()
    for check, bad in _unmet(table, _row_checks(limits)):
        counts[check.name] = len(bad)
        for row in bad.to_dict("records"):
            reasons.setdefault(int(row["row"]), []).append(check.tell(row).replace(";", ","))
    table["quarantined"] = table["row"].isin(reasons).astype(float)
    failed = _faults(table, _set_checks(table, limits))
    trusted = table[table["quarantined"] == 0]
    failed += _faults(trusted, _clean_checks(trusted, limits))
    kept = (table["quarantined"] == 0).to_numpy()
    clean = rows[kept].reset_index(drop=True)
    quarantine = rows[~kept].assign(reasons=["; ".join(reasons[row]) for row in sorted(reasons)])
    statistics = _statistics(rows, clean, counts)
    return Verdict(not failed, failed, clean, quarantine.reset_index(drop=True), statistics)


def _row_checks(limits: Validate) -> list[Check]:
    gxe = _expectations()

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
        absent("undecodable", "error", lambda row: (
            f"cannot be decoded: {row['error'].split(row['path'] + ': ')[-1]}")),
        absent("unmeasured", "unmeasured", lambda row: "was decoded but not measured, run prepare again"),
        between("duration", "duration_s", limits.min_duration_s, limits.max_duration_s,
                "lasts {:.2f} s, expected {low:g} to {high:g} s"),
        between("sample rate", "sample_rate", low_hz, high_hz,
                "sample rate {:.0f} Hz, expected {low:g} to {high:g} Hz"),
        between("bandwidth", "bandwidth_hz", limits.min_bandwidth_hz, None,
                "sound reaches up to {:.0f} Hz, expected at least {low:g} Hz"),
        between("silence", "silence", None, limits.max_silence,
                "{:.3f} of it is silent, expected at most {high:g}"),
        between("clipping", "clipping", None, limits.max_clipping,
                "{:.3f} of it is clipped, expected at most {high:g}"),
        between("dc offset", "dc_offset", None, limits.max_dc_offset,
                "constant offset {:.3f} of full scale, expected at most {high:g}"),
        between("noise", "snr_db", limits.min_snr_db, None,
                "signal to noise {:.1f} dB, expected at least {low:g} dB"),
        written("text"),
        written("voice"),
        written("language"),
        Check("control character", unlike(column="text", regex=CONTROLS),
              lambda row: f"text {row['text']!r} holds a control character"),
        Check("markup", unlike(column="text", regex=MARKUP),
              lambda row: f"text {row['text']!r} holds markup"),
        absent("script", "foreign_script", lambda row: (
            f"text is in {row['foreign_script']}, "
            f"expected {expected_scripts(row['language'])} for language {row['language']}")),
        between("speed", "chars_per_s", None, limits.max_chars_per_s,
                "{:.1f} characters a second, expected at most {high:g}"),
        absent("contradiction", "contradicts", lambda row: (
            f"same recording as {row['contradicts']} under another text or voice")),
        absent("duplicate", "twin", lambda row: f"same recording, text and voice as {row['twin']}"),
    ]  # fmt: skip


def _shape_checks(rows: pd.DataFrame) -> list[Check]:
    gxe = _expectations()
    missing = ", ".join(name for name in REQUIRED if name not in rows.columns)
    return [
        Check("columns present", gxe.ExpectTableColumnsToMatchSet(column_set=REQUIRED, exact_match=False),
              lambda bad: f"no column {missing} in the prepared manifest"),
        Check("rows present", gxe.ExpectTableRowCountToBeBetween(min_value=1),
              lambda bad: "no row in the prepared manifest, expected at least 1"),
    ]  # fmt: skip


def _set_checks(table: pd.DataFrame, limits: Validate) -> list[Check]:
    """About all rows: a fault in how the set was put together is not cured by quarantining its row."""
    gxe = _expectations()
    share = float(table["quarantined"].mean())
    once = gxe.ExpectColumnValuesToBeBetween
    return [
        Check("paths unique", gxe.ExpectColumnValuesToBeUnique(column="path"),
              lambda bad: f"{_some(bad['path'])} listed more than once"),
        Check("splits known", gxe.ExpectColumnValuesToBeInSet(column="split", value_set=SPLITS),
              lambda bad: f"split {_some(bad['split'])}, expected {', '.join(SPLITS)}"),
        Check("voice on one split", once(column="voice_splits", max_value=1),
              lambda bad: f"voice {_some(bad['voice'] + ' is in ' + bad['voice_sides'])}, expected one"),
        Check("person on one split", once(column="who_splits", max_value=1),
              lambda bad: f"person {_some(bad['who'] + ' is in ' + bad['who_sides'])}, expected one"),
        Check("synthetic only in train", gxe.ExpectColumnValuesToBeInSet(
                  column="synthetic_split", value_set=["train"]),
              lambda bad: f"synthetic speech in {_some(bad['split'])}: {_some(bad['path'])}"),
        Check("share quarantined", gxe.ExpectColumnMeanToBeBetween(
                  column="quarantined", max_value=limits.max_quarantined),
              lambda bad: f"{share:.3f} of all rows, expected at most {limits.max_quarantined:g}"),
    ]  # fmt: skip


def _clean_checks(clean: pd.DataFrame, limits: Validate) -> list[Check]:
    gxe = _expectations()
    voices = clean["test_who"].nunique()
    empty = ", ".join(split for split in SPLITS if split not in set(clean["split"]))
    return [
        Check("splits filled", gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=SPLITS),
              lambda bad: f"no clean row in split {empty}"),
        Check("test voices", gxe.ExpectColumnUniqueValueCountToBeBetween(
                  column="test_who", min_value=limits.min_test_voices),
              lambda bad: f"{voices} clean test voices, expected at least {limits.min_test_voices}"),
    ]  # fmt: skip


def _faults(table: pd.DataFrame, checks: list[Check]) -> list[Fault]:
    return [Fault(check.name, check.tell(bad)) for check, bad in _unmet(table, checks)]


def _unmet(table: pd.DataFrame, checks: list[Check]) -> list[tuple[Check, pd.DataFrame]]:
    """The checks that do not hold, each with its bad rows (none where it is about the whole table)."""
    import great_expectations as gx
    from great_expectations.data_context.types import base

    config = base.DataContextConfig(
        # Without its documentation site, for which every context would make a temporary folder.
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    named = {check.name: check for check in checks}
    for check in checks:
        check.expectation.meta = {"check": check.name}
    suite = gx.ExpectationSuite(name="quality", expectations=[check.expectation for check in checks])
    index = {"unexpected_index_column_names": ["row"]} if "row" in table.columns else {}
    report = batch.validate(suite, result_format={"result_format": "COMPLETE", **index})
    unmet = {}
    for result in report.results:
        check = named[(getattr(result.expectation_config, "meta", None) or {})["check"]]
        if not result.success and "raised_exception" not in result.exception_info:
            raise RuntimeError(f"{check.name}: could not be judged: {result.exception_info}")
        if not result.success:
            numbers = {int(found["row"]) for found in result.result.get("unexpected_index_list") or ()}
            unmet[check.name] = table[table["row"].isin(numbers)] if index else table.iloc[:0]
    return [(check, unmet[check.name]) for check in checks if check.name in unmet]


def _expectations() -> Any:
    """Great Expectations takes seconds to import and would report home: only here, and silent."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations.expectations as gxe

    return gxe


def _some(values: pd.Series, most: int = 3) -> str:
    names = list(dict.fromkeys(str(value) for value in values))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _statistics(rows: pd.DataFrame, clean: pd.DataFrame, reasons: Counter[str]) -> dict[str, Any]:
    known = {name for name in ("duration_s", "voice", "language", "split") if name in rows.columns}

    def of(part: pd.DataFrame) -> dict[str, Any]:
        return {
            "rows": len(part),
            "hours": round(float(part["duration_s"].sum()) / 3600, 3) if "duration_s" in known else 0.0,
            "voices": int(part["voice"].nunique()) if "voice" in known else 0,
            "languages": int(part["language"].nunique()) if "language" in known else 0,
        }

    splits = {str(name): of(part) for name, part in clean.groupby("split")} if "split" in known else {}
    return {
        **of(clean),
        "rows": len(rows),
        "clean": len(clean),
        "quarantined": len(rows) - len(clean),
        "reasons": dict(reasons.most_common()),
        "splits": splits,
    }
