"""Drift: whether new data differs from the data that a model learned from.

A profile summarises the known data as small JSON that contains no row of it and travels with the model. Measures are
compared by the Kullback-Leibler divergence between histograms over the deciles of the known data, categories by the
divergence between their shares.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from metavox.params import Validate
from metavox.quality.engine import Check, expectations, failed_checks
from metavox.quality.indicators import CACHED_TEXTS, DESCRIBED, row_indicators, script_of
from metavox.quality.suites import first_few

# Measures, and the range to which values are clipped.
MEASURES = {
    "duration_s": (0.0, 4 * 3600.0),
    "snr_db": (-20.0, 100.0),
    "bandwidth_hz": (0.0, 96000.0),
    "rms_db": (-120.0, 100.0),
    "chars_per_s": (0.0, 1e6),
    "silence": (0.0, 1.0),
}
CATEGORIES = {"language": "critical", "script": "critical", "source": "warning", "unit": "warning"}
BINS = 10
DIGITS = 6
FALSE_ALARM_RATE = 1e-3  # for one measure of rows from the known distribution
UNSEEN_SHARE = 1e-3  # assumed for values that the known data does not have
MIN_KNOWN_LETTERS = 0.98  # share of rows without an unknown letter: one misspelt row in fifty is no drift


@dataclass(frozen=True)
class Shift:
    """A check that new data fails, with a one-line summary of each distribution."""

    name: str
    explanation: str
    new: str
    known: str


@dataclass(frozen=True)
class Drift:
    """`success` unless a check failed. `warnings` do not count, because another source or unit is often intended."""

    success: bool
    rows: int
    failed: list[Shift]
    warnings: list[Shift]
    reports: list[Any] = field(default_factory=list, repr=False)


def profile(rows: pd.DataFrame) -> dict[str, Any]:
    """The distributions of the rows, as JSON. `rows` are as for `judge`; undecodable ones do not count.

    The same rows in any order give the same profile.
    """
    table = _table(rows)
    return {
        "rows": len(table),
        "measures": {
            name: _histogram(table[name].dropna(), name) for name in MEASURES if table[name].notna().any()
        },
        "shares": {name: _shares(table[name]) for name in CATEGORIES},
        "alphabet": "".join(sorted(set("".join(table["words"])))),
        "words": int(table["words"].nunique()),
    }


def judge_drift(rows: pd.DataFrame, known: dict[str, Any], limits: Validate) -> Drift:
    """Compare rows, which are as for `judge`, with the `known` profile.

    Raises ValueError when there is no row that was decoded.
    """
    table = _table(rows)
    if table.empty:
        raise ValueError("no recording to compare; expected at least one that can be decoded")
    letters = set(known["alphabet"])
    table["new_letters"] = ["".join(sorted(set(words) - letters)) or None for words in table["words"]]
    results, report = failed_checks(table, "drift", _suite(table, known, limits))
    failed: list[Shift] = []
    warnings: list[Shift] = []
    for result in results:
        new, old = _summaries(result.check.name, table, known)
        evidence = result.bad if result.observed is None or len(result.bad) else result.observed
        shift = Shift(result.check.name, result.check.explain(evidence), new, old)
        (warnings if result.check.is_warning else failed).append(shift)
    return Drift(not failed, len(table), failed, warnings, [report])


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    table = row_indicators(rows)
    table = table[table["error"].isna()]
    words = table["words"].where(table["text_kind"] != "concept", "")
    table = table[[*DESCRIBED, *MEASURES]].assign(words=words, script=words.map(_script))
    for name, (low, high) in MEASURES.items():
        table[name] = table[name].clip(low, high)
    return table.reset_index(drop=True)


@lru_cache(maxsize=CACHED_TEXTS)
def _script(words: str) -> str:
    """The most frequent script of the letters, the first by name on a tie; empty without a letter."""
    scripts = Counter(script_of(letter) for letter in words if letter.isalpha())
    return max(sorted(scripts), key=lambda script: scripts[script], default="")


def _histogram(values: "pd.Series[float]", name: str) -> dict[str, Any]:
    """Shares of the values between the distinct deciles, and in the empty bins below and above all values."""
    low, high = MEASURES[name]
    deciles = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf").round(DIGITS)
    above = float(values.max()) + 10.0**-DIGITS
    edges = np.unique([low, round(float(values.min()), DIGITS), *deciles, min(above, high), high])
    counts = np.histogram(values, edges)[0] + 0.5  # values in an empty bin are rare, not impossible
    shares = counts / counts.sum()
    return {"edges": edges.tolist(), "shares": shares.round(DIGITS).tolist(), "typical": _typical(values)}


def _typical(values: "pd.Series[float]") -> list[float]:
    """The 5th, 50th and 95th percentiles."""
    return [round(float(value), 3) for value in np.quantile(values, (0.05, 0.5, 0.95))]


def _shares(values: "pd.Series[str]") -> dict[str, float]:
    counts = values[values != ""].value_counts()
    return {
        str(name): round(float(counts[name]) / float(counts.sum()), DIGITS) for name in sorted(counts.index)
    }


def _suite(table: pd.DataFrame, known: dict[str, Any], limits: Validate) -> list[Check]:
    gxe = expectations()

    def same_distribution(column: str, partition: dict[str, list[Any]], severity: str) -> Check:
        # For n rows from the known distribution, 2n times the divergence is chi-squared.
        rows = int((table[column] != "").sum() - table[column].isna().sum())
        chance = chi2.isf(FALSE_ALARM_RATE, max(1, len(partition["weights"]) - 1)) / (2 * rows)
        threshold = round(limits.max_drift + float(chance), 3)
        total = sum(partition["weights"])
        partition = {**partition, "weights": [weight / total for weight in partition["weights"]]}
        expectation = gxe.ExpectColumnKLDivergenceToBeLessThan(
            column=column,
            partition_object=partition,
            threshold=threshold,
            severity=severity,
            tail_weight_holdout=UNSEEN_SHARE if "values" in partition else 0,
        )
        return Check(
            column,
            expectation,
            lambda observed: f"divergence {observed:.2f}, expected at most {threshold:.2f}",
        )

    languages = sorted(known["shares"]["language"])
    checks = [
        Check(
            "unseen language",
            gxe.ExpectColumnValuesToBeInSet(column="language", value_set=languages),
            lambda bad: f"{first_few(bad['language'])}: the model has not learned from this language",
        ),
        Check(
            "unseen letters",
            gxe.ExpectColumnValuesToBeNull(column="new_letters", mostly=MIN_KNOWN_LETTERS),
            lambda bad: (
                f"{first_few(bad['new_letters'])} in {len(bad)} texts: the model has not learned them"
            ),
        ),
    ]
    for name, histogram in known["measures"].items():
        if table[name].notna().any():
            partition = {"bins": histogram["edges"], "weights": histogram["shares"]}
            checks.append(same_distribution(name, partition, "critical"))
    for name, severity in CATEGORIES.items():
        shares = known["shares"][name]
        if shares and (table[name] != "").any():
            partition = {"values": list(shares), "weights": list(shares.values())}
            checks.append(same_distribution(name, partition, severity))
    return checks


def _summaries(name: str, table: pd.DataFrame, known: dict[str, Any]) -> tuple[str, str]:
    """A one-line summary of the new and of the known distribution."""
    if name in MEASURES:
        return _percentiles(_typical(table[name].dropna())), _percentiles(known["measures"][name]["typical"])
    if name == "unseen letters":
        return "".join(sorted(set("".join(table["words"])))), str(known["alphabet"])
    column = "language" if name == "unseen language" else name
    return _largest_shares(_shares(table[column])), _largest_shares(known["shares"][column])


def _percentiles(values: list[float]) -> str:
    low, median, high = (f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" for value in values)
    return f"5% below {low}, median {median}, 95% below {high}"


def _largest_shares(shares: dict[str, float], limit: int = 6) -> str:
    names = sorted(shares, key=lambda name: (-shares[name], name))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"{name} {shares[name]:.1%}" for name in names[:limit]) + more
