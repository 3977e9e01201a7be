"""The verdict on a manifest: runs the suites and collects the faults of each row and of the whole set."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from metavox.dataset.manifest import COLUMNS
from metavox.params import Validate
from metavox.quality import suites
from metavox.quality.engine import Check, FailedCheck, failed_checks
from metavox.quality.indicators import manifest_indicators, row_indicators, with_balance
from metavox.quality.released import Released


@dataclass(frozen=True)
class Fault:
    """A failed check of the whole set: an error, which stops the pipeline, or a warning, which is only reported."""

    name: str
    explanation: str  # one line: what was observed, what was expected


@dataclass(frozen=True)
class Verdict:
    success: bool  # no error of the whole set; quarantined rows and warnings alone do not fail it
    failed: list[Fault]
    warnings: list[Fault]
    clean: pd.DataFrame  # the rows to learn from, with the columns of the input
    quarantine: pd.DataFrame  # the other rows; `reasons`: sentences, `checks`: names, both joined by "; "
    statistics: dict[str, Any]
    reports: list[Any] = field(default_factory=list, repr=False)  # Great Expectations' result for each suite


def judge(rows: pd.DataFrame, limits: Validate, released: pd.DataFrame | None = None) -> Verdict:
    """Check a prepared manifest against the limits.

    `rows` needs the columns of a manifest, the measures and `error`. Duplicates are found by the column `content`, the
    digest of the decoded recording, or else by the manifest's `sha256`. `released` are rows that a person took out of
    quarantine (see released.py).

    Every row ends up in `clean` or in `quarantine`. If a column is missing or there is no row, nothing else can be
    checked and both are empty.
    """
    gate = _Gate()
    gate.check_set(rows, "table", suites.table_suite(rows, suites.REQUIRED))
    if gate.failed:
        empty = rows.iloc[:0]
        statistics = _statistics(rows, empty, Counter(), 0)
        quarantine = empty.assign(reasons="", checks="")
        return Verdict(False, gate.failed, [], empty, quarantine, statistics, gate.reports)
    rows = rows.reset_index(drop=True)
    table = row_indicators(rows)
    reasons = gate.check_rows(table, limits)
    released_rows = Released(released).among(table, {row: list(checks) for row, checks in reasons.items()})
    bad = {row: checks for row, checks in sorted(reasons.items()) if row not in released_rows}
    table["quarantined"] = table.index.isin(list(bad)).astype(float)
    kept = (table["quarantined"] == 0).to_numpy()
    trusted = with_balance(table[kept])
    gate.check_set(table, "set", suites.set_suite() + suites.share_suite(1 - kept.mean(), limits))
    gate.check_set(trusted, "trusted", suites.clean_suite(trusted, limits) + suites.balance_suite(limits))
    clean = rows[kept].reset_index(drop=True)
    quarantine = (
        rows[~kept]
        .reset_index(drop=True)
        .assign(
            reasons=["; ".join(checks.values()) for checks in bad.values()],
            checks=["; ".join(checks) for checks in bad.values()],
        )
    )
    counts = Counter(name for checks in bad.values() for name in checks)
    statistics = _statistics(rows, clean, counts, len(released_rows))
    return Verdict(not gate.failed, gate.failed, gate.warnings, clean, quarantine, statistics, gate.reports)


def judge_rows(rows: pd.DataFrame, limits: Validate) -> list[list[str]]:
    """The reasons why each row may not be learned from, in the order of the rows; [] for a row that may.

    `rows` are rows as `prepare` makes them. Raises ValueError when a column is missing.
    """
    if missing := [name for name in suites.REQUIRED if name not in rows.columns]:
        raise ValueError(f"no column {', '.join(missing)}; expected rows as prepare makes them")
    reasons = _Gate().check_rows(row_indicators(rows), limits) if len(rows) else {}
    return [list(reasons.get(row, {}).values()) for row in range(len(rows))]


def judge_set(rows: pd.DataFrame, limits: Validate) -> tuple[list[Fault], list[Fault]]:
    """(errors, warnings) of a whole set, from the manifest's own columns alone."""
    gate = _Gate()
    if len(rows) and set(COLUMNS) <= set(rows.columns):
        checks = suites.set_suite() + suites.balance_suite(limits)
        gate.check_set(with_balance(manifest_indicators(rows)), "set", checks)
    else:  # the other checks would fail to run
        gate.check_set(rows, "table", suites.table_suite(rows, list(COLUMNS)))
    return gate.failed, gate.warnings


@dataclass
class _Gate:
    """Collects the results of the suites that run over one manifest."""

    failed: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    reports: list[Any] = field(default_factory=list)

    def check_rows(self, table: pd.DataFrame, limits: Validate) -> dict[int, dict[str, str]]:
        """Index of each bad row -> name of each check that it failed -> the reason as a sentence."""
        reasons: dict[int, dict[str, str]] = {}
        for failed in self._run(table, "recordings", suites.row_suite(limits)):
            check = failed.check
            for index, row in zip(failed.bad.index, failed.bad.to_dict("records"), strict=True):
                reasons.setdefault(int(index), {})[check.name] = check.explain(row).replace(";", ",")
        return reasons

    def check_set(self, table: pd.DataFrame, suite: str, checks: list[Check]) -> None:
        for failed in self._run(table, suite, checks):
            faults = self.warnings if failed.check.is_warning else self.failed
            faults.append(Fault(failed.check.name, failed.check.explain(failed.bad)))

    def _run(self, table: pd.DataFrame, suite: str, checks: list[Check]) -> list[FailedCheck]:
        failed, report = failed_checks(table, suite, checks)
        self.reports.append(report)
        return failed


def _statistics(
    rows: pd.DataFrame, clean: pd.DataFrame, reasons: Counter[str], released: int
) -> dict[str, Any]:
    known = {name for name in ("duration_s", "speaker", "language", "split") if name in rows.columns}

    def totals(part: pd.DataFrame) -> dict[str, Any]:
        return {
            "rows": len(part),
            "hours": round(float(part["duration_s"].sum()) / 3600, 3) if "duration_s" in known else 0.0,
            "speakers": int(part["speaker"].nunique()) if "speaker" in known else 0,
            "languages": int(part["language"].nunique()) if "language" in known else 0,
        }

    splits = {str(name): totals(part) for name, part in clean.groupby("split")} if "split" in known else {}
    return {
        **totals(clean),
        "rows": len(rows),
        "clean": len(clean),
        "quarantined": len(rows) - len(clean),
        "released": released,
        "reasons": dict(reasons.most_common()),
        "splits": splits,
    }
