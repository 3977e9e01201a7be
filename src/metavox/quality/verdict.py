"""The verdict: the suites run over a manifest, and what each row and the whole set is told."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from metavox.dataset.manifest import COLUMNS
from metavox.params import Validate
from metavox.quality import suites
from metavox.quality.engine import Check, Unmet, unmet
from metavox.quality.indicators import claims, symptoms, with_balance
from metavox.quality.released import Released


@dataclass(frozen=True)
class Fault:
    """An expectation about the whole set that did not hold: it stops the pipeline, or as a warning is told."""

    name: str
    explanation: str  # one line: what was found, what was expected


@dataclass(frozen=True)
class Verdict:
    success: bool  # no fault of the whole set; quarantined rows and warnings alone do not fail it
    failed: list[Fault]
    warnings: list[Fault]
    clean: pd.DataFrame  # the rows to learn from, columns as they came
    quarantine: pd.DataFrame  # the other rows; `reasons`: sentences, `checks`: names, both joined by "; "
    statistics: dict[str, Any]
    reports: list[Any] = field(default_factory=list, repr=False)  # Great Expectations' results, one a suite


def judge(rows: pd.DataFrame, limits: Validate, released: pd.DataFrame | None = None) -> Verdict:
    """Judge a prepared manifest: the corpus manifest's columns, the measures, `error` and, for
    duplicates, `content`: the digest of the recording, or else the manifest's `sha256`.

    Rows are never dropped: each is in `clean` or in `quarantine`. `released` are rows that a person has
    taken out of the quarantine (see released.py). When columns are missing or there is no row, nothing else
    can be judged, and both are empty.
    """
    gate = _Gate()
    gate.judge(rows, "table", suites.table_suite(rows, suites.REQUIRED))
    if gate.failed:
        nothing = rows.iloc[:0]
        statistics = _statistics(rows, nothing, Counter(), 0)
        empty = nothing.assign(reasons="", checks="")
        return Verdict(False, gate.failed, [], nothing, empty, statistics, gate.reports)
    rows = rows.reset_index(drop=True)
    table = symptoms(rows)
    found = gate.rows(table, limits)
    freed = Released(released).among(table, {row: list(told) for row, told in found.items()})
    bad = {row: told for row, told in sorted(found.items()) if row not in freed}
    table["quarantined"] = table.index.isin(list(bad)).astype(float)
    kept = (table["quarantined"] == 0).to_numpy()
    trusted = with_balance(table[kept])
    gate.judge(table, "set", suites.set_suite() + suites.share_suite(1 - kept.mean(), limits))
    gate.judge(trusted, "trusted", suites.clean_suite(trusted, limits) + suites.balance_suite(limits))
    clean = rows[kept].reset_index(drop=True)
    quarantine = (
        rows[~kept]
        .reset_index(drop=True)
        .assign(
            reasons=["; ".join(told.values()) for told in bad.values()],
            checks=["; ".join(told) for told in bad.values()],
        )
    )
    counts = Counter(name for told in bad.values() for name in told)
    statistics = _statistics(rows, clean, counts, len(freed))
    return Verdict(not gate.failed, gate.failed, gate.warnings, clean, quarantine, statistics, gate.reports)


def judge_rows(rows: pd.DataFrame, limits: Validate) -> list[list[str]]:
    """Of each row as `prepare` makes them, in their order: why it may not be learned from; [] when it may.

    Raises ValueError when a column is missing.
    """
    if missing := [name for name in suites.REQUIRED if name not in rows.columns]:
        raise ValueError(f"no column {', '.join(missing)}; expected rows as prepare makes them")
    found = _Gate().rows(symptoms(rows), limits) if len(rows) else {}
    return [list(found.get(row, {}).values()) for row in range(len(rows))]


def judge_set(rows: pd.DataFrame, limits: Validate) -> tuple[list[Fault], list[Fault]]:
    """What is wrong with a set, from the manifest's own columns: (faults that stop, warnings)."""
    gate = _Gate()
    gate.judge(rows, "table", suites.table_suite(rows, list(COLUMNS)))
    if not gate.failed:
        gate.judge(with_balance(claims(rows)), "set", suites.set_suite() + suites.balance_suite(limits))
    return gate.failed, gate.warnings


@dataclass
class _Gate:
    """Collects what the suites say."""

    failed: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    reports: list[Any] = field(default_factory=list)

    def rows(self, table: pd.DataFrame, limits: Validate) -> dict[int, dict[str, str]]:
        """Of each bad row, by its number: a sentence by the name of the check."""
        found: dict[int, dict[str, str]] = {}
        for unkept in self._run(table, "recordings", suites.row_suite(limits)):
            check = unkept.check
            for number, row in zip(unkept.bad.index, unkept.bad.to_dict("records"), strict=True):
                found.setdefault(int(number), {})[check.name] = check.tell(row).replace(";", ",")
        return found

    def judge(self, table: pd.DataFrame, suite: str, checks: list[Check]) -> None:
        for unkept in self._run(table, suite, checks):
            told = self.warnings if unkept.check.warns else self.failed
            told.append(Fault(unkept.check.name, unkept.check.tell(unkept.bad)))

    def _run(self, table: pd.DataFrame, suite: str, checks: list[Check]) -> list[Unmet]:
        found, report = unmet(table, suite, checks)
        self.reports.append(report)
        return found


def _statistics(
    rows: pd.DataFrame, clean: pd.DataFrame, reasons: Counter[str], released: int
) -> dict[str, Any]:
    known = {name for name in ("duration_s", "speaker", "language", "split") if name in rows.columns}

    def of(part: pd.DataFrame) -> dict[str, Any]:
        return {
            "rows": len(part),
            "hours": round(float(part["duration_s"].sum()) / 3600, 3) if "duration_s" in known else 0.0,
            "speakers": int(part["speaker"].nunique()) if "speaker" in known else 0,
            "languages": int(part["language"].nunique()) if "language" in known else 0,
        }

    splits = {str(name): of(part) for name, part in clean.groupby("split")} if "split" in known else {}
    return {
        **of(clean),
        "rows": len(rows),
        "clean": len(clean),
        "quarantined": len(rows) - len(clean),
        "released": released,
        "reasons": dict(reasons.most_common()),
        "splits": splits,
    }
