"""Does new data look like the data that a model learned from? A profile of the one, a suite for the other.

The profile is small JSON without any row of the data, and travels with the model. Numbers are compared by the
Kullback-Leibler divergence of their histograms over the tenths of the known data, names by that of their shares.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from metavox.params import Validate
from metavox.quality.engine import Check, expectations, unmet
from metavox.quality.indicators import CLAIMED, TEXTS, script_of, symptoms
from metavox.quality.suites import some

# What is measured, and the range that any recording is in.
MEASURES = {
    "duration_s": (0.0, 4 * 3600.0),
    "snr_db": (-20.0, 100.0),
    "bandwidth_hz": (0.0, 96000.0),
    "rms_db": (-120.0, 100.0),
    "chars_per_s": (0.0, 1e6),
    "silence": (0.0, 1.0),
}
NAMES = {"language": "critical", "script": "critical", "source": "warning", "unit": "warning"}
BINS = 10
DIGITS = 6
CHANCE = 1e-3  # of an alarm about one measure of rows that are of the known kind
UNSEEN = 1e-3  # share that a value which the known data never had is taken to have
LETTERS_KNOWN = 0.98  # share of rows without an unknown letter: one misspelt row in fifty is no drift


@dataclass(frozen=True)
class Shift:
    """An expectation that new data does not meet, with both distributions in a line each."""

    name: str
    explanation: str
    new: str
    known: str


@dataclass(frozen=True)
class Drift:
    """`success` when nothing shifted; `warnings` are told only: another source or unit is often meant."""

    success: bool
    rows: int
    failed: list[Shift]
    warnings: list[Shift]
    reports: list[Any] = field(default_factory=list, repr=False)


def profile(rows: pd.DataFrame) -> dict[str, Any]:
    """What the rows look like, as JSON; rows as `judge` takes them, undecodable ones do not count.

    The same rows give the same profile, in any order.
    """
    table = _table(rows)
    return {
        "rows": len(table),
        "measures": {
            name: _histogram(table[name].dropna(), name) for name in MEASURES if table[name].notna().any()
        },
        "shares": {name: _shares(table[name]) for name in NAMES},
        "alphabet": "".join(sorted(set("".join(table["words"])))),
        "words": int(table["words"].nunique()),
    }


def judge_drift(rows: pd.DataFrame, known: dict[str, Any], limits: Validate) -> Drift:
    """Compare rows, as `judge` takes them, with the `profile` of others.

    Raises ValueError when no row can be compared: none is there, or none was decoded.
    """
    table = _table(rows)
    if table.empty:
        raise ValueError("no recording to compare; expected at least one that can be decoded")
    letters = set(known["alphabet"])
    table["new_letters"] = ["".join(sorted(set(words) - letters)) or None for words in table["words"]]
    found, report = unmet(table, "drift", _suite(table, known, limits))
    failed: list[Shift] = []
    warnings: list[Shift] = []
    for one in found:
        new, old = _pictures(one.check.name, table, known)
        told = one.bad if one.observed is None or len(one.bad) else one.observed
        shift = Shift(one.check.name, one.check.tell(told), new, old)
        (warnings if one.check.warns else failed).append(shift)
    return Drift(not failed, len(table), failed, warnings, [report])


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    table = symptoms(rows)
    table = table[table["error"].isna()]
    spelt = table["words"].where(table["text_kind"] != "concept", "")
    table = table[[*CLAIMED, *MEASURES]].assign(words=spelt, script=spelt.map(_script))
    for name, (low, high) in MEASURES.items():
        table[name] = table[name].clip(low, high)
    return table.reset_index(drop=True)


@lru_cache(maxsize=TEXTS)
def _script(words: str) -> str:
    """The one that most of its letters are in; of equals the first by name; empty without a letter."""
    scripts = Counter(script_of(letter) for letter in words if letter.isalpha())
    return max(sorted(scripts), key=lambda script: scripts[script], default="")


def _histogram(values: "pd.Series[float]", name: str) -> dict[str, Any]:
    """Shares of the values between edges that cut the values into tenths, as far as they differ; and of
    what is below and above all of them, where nothing is yet."""
    low, high = MEASURES[name]
    tenths = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf").round(DIGITS)
    above = float(values.max()) + 10.0**-DIGITS
    edges = np.unique([low, round(float(values.min()), DIGITS), *tenths, min(above, high), high])
    counts = np.histogram(values, edges)[0] + 0.5  # where nothing is, a value is rare, not impossible
    shares = counts / counts.sum()
    return {"edges": edges.tolist(), "shares": shares.round(DIGITS).tolist(), "typical": _typical(values)}


def _typical(values: "pd.Series[float]") -> list[float]:
    """The 5th, 50th and 95th of a hundred."""
    return [round(float(value), 3) for value in np.quantile(values, (0.05, 0.5, 0.95))]


def _shares(values: "pd.Series[str]") -> dict[str, float]:
    counts = values[values != ""].value_counts()
    return {
        str(name): round(float(counts[name]) / float(counts.sum()), DIGITS) for name in sorted(counts.index)
    }


def _suite(table: pd.DataFrame, known: dict[str, Any], limits: Validate) -> list[Check]:
    gxe = expectations()

    def alike(column: str, cells: dict[str, list[Any]], severity: str) -> Check:
        # 2n times the divergence of n rows of the known kind is chi-squared: what it exceeds CHANCE of the time.
        rows = int((table[column] != "").sum() - table[column].isna().sum())
        chance = chi2.isf(CHANCE, max(1, len(cells["weights"]) - 1)) / (2 * rows)
        most = round(limits.max_drift + float(chance), 3)
        total = sum(cells["weights"])
        cells = {**cells, "weights": [weight / total for weight in cells["weights"]]}
        expectation = gxe.ExpectColumnKLDivergenceToBeLessThan(
            column=column,
            partition_object=cells,
            threshold=most,
            severity=severity,
            tail_weight_holdout=UNSEEN if "values" in cells else 0,
        )
        return Check(
            column, expectation, lambda observed: f"divergence {observed:.2f}, expected at most {most:.2f}"
        )

    seen = sorted(known["shares"]["language"])
    checks = [
        Check(
            "unseen language",
            gxe.ExpectColumnValuesToBeInSet(column="language", value_set=seen),
            lambda bad: f"{some(bad['language'])}: the model has learned from none of it",
        ),
        Check(
            "unseen letters",
            gxe.ExpectColumnValuesToBeNull(column="new_letters", mostly=LETTERS_KNOWN),
            lambda bad: f"{some(bad['new_letters'])} in {len(bad)} texts: the model has no sign for them",
        ),
    ]
    for name, one in known["measures"].items():
        if table[name].notna().any():
            checks.append(alike(name, {"bins": one["edges"], "weights": one["shares"]}, "critical"))
    for name, severity in NAMES.items():
        shares = known["shares"][name]
        if shares and (table[name] != "").any():
            cells = {"values": list(shares), "weights": list(shares.values())}
            checks.append(alike(name, cells, severity))
    return checks


def _pictures(name: str, table: pd.DataFrame, known: dict[str, Any]) -> tuple[str, str]:
    """The new and the known distribution, in a line each."""
    if name in MEASURES:
        return _spread(_typical(table[name].dropna())), _spread(known["measures"][name]["typical"])
    if name == "unseen letters":
        return "".join(sorted(set("".join(table["words"])))), str(known["alphabet"])
    column = "language" if name == "unseen language" else name
    return _listed(_shares(table[column])), _listed(known["shares"][column])


def _spread(values: list[float]) -> str:
    low, half, high = (f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" for value in values)
    return f"5% below {low}, half below {half}, 95% below {high}"


def _listed(shares: dict[str, float], most: int = 6) -> str:
    names = sorted(shares, key=lambda name: (-shares[name], name))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"{name} {shares[name]:.1%}" for name in names[:most]) + more
