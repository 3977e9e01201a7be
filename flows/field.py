"""The recordings of the field: what was decided about each (`field.csv`), and a batch of those that wait for a decision."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from metavox.dataset.manifest import read_manifest, resolve
from metavox.files import written_aside
from metavox.promotion.policy import LearnPolicy, Policy
from metavox.promotion.versions import DECISIONS, FIELD

ACCEPTED, REFUSED = "accepted", "refused"
TRAIN, JUDGE = "train", "judge"
COLUMNS = ["sha256", "batch", "use", "decision"]


@dataclass(frozen=True)
class Batch:
    """Recordings to decide about, those that were accepted before, and the policy. `rows` and `known` have a `use`."""

    name: str
    rows: pd.DataFrame
    known: pd.DataFrame
    policy: Policy

    def learned(self) -> pd.DataFrame:
        """What a challenger learns from."""
        return pd.concat([self.known[self.known["use"] == TRAIN], self.rows[self.rows["use"] == TRAIN]])

    def judged(self) -> pd.DataFrame:
        """What champion and challenger are compared on."""
        return pd.concat(
            [
                self.known[self.known["use"] == JUDGE].assign(set="fixed"),
                self.rows[self.rows["use"] == JUDGE].assign(set="newest"),
            ]
        )


def read_field(project: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The recordings of `field/`, and the decisions about them."""
    manifest = project / FIELD / "manifest.csv"
    rows = read_manifest(manifest)
    rows = rows.assign(path=[str(resolve(manifest, path)) for path in rows["path"]])
    path = project / DECISIONS
    decided = pd.read_csv(path, dtype=str) if path.is_file() else pd.DataFrame(columns=COLUMNS)
    return rows, decided


def write_decisions(project: Path, decided: pd.DataFrame) -> None:
    with written_aside(project / DECISIONS) as aside:
        decided.to_csv(aside, index=False)


def use_of(digests: "pd.Series[str]", policy: LearnPolicy) -> list[str]:
    """Whether each recording teaches or judges. The digest of a recording decides, so it is the same at any time."""
    share = int(policy.held_out * 2**32)
    return [
        JUDGE if int(hashlib.sha256(digest.encode()).hexdigest()[:8], 16) < share else TRAIN
        for digest in digests
    ]
