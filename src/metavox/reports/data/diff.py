"""Comparison of two versions of a corpus: recordings, speakers, splits and distributions.

Recordings are matched by content (`sha256`) and path, so a renamed file counts as renamed, and a file with different
audio under the same name counts as changed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

FIELDS = (
    "text",
    "speaker",
    "language",
    "speaker_group",
    "split",
    "source",
    "license",
    "environment",
    "unit",
    "text_kind",
    "synthetic",
)
# The most reliable keys first. A row without a digest is matched by its path alone.
KEYS = (("path", "sha256"), ("sha256", "speaker", "text"), ("sha256",), ("path",))
SHIFTED = 0.1  # up to this distance between cumulative distributions, durations count as unchanged


@dataclass(frozen=True)
class Diff:
    before: pd.DataFrame
    after: pd.DataFrame
    added: pd.DataFrame  # rows of `after`
    removed: pd.DataFrame  # rows of `before`
    renamed: pd.DataFrame  # path_before, path
    changed: pd.DataFrame  # path, fields (tuple), and FIELD, FIELD_before for each field
    moved: pd.DataFrame  # speakers on another split: speaker, before, after, recordings
    alarms: list[str]  # changes that make results on the two versions incomparable

    @property
    def speakers_new(self) -> list[str]:
        return sorted(set(self.after["speaker"]) - set(self.before["speaker"]))

    @property
    def speakers_gone(self) -> list[str]:
        return sorted(set(self.before["speaker"]) - set(self.after["speaker"]))

    @property
    def same(self) -> bool:
        return not (len(self.added) or len(self.removed) or len(self.renamed) or len(self.changed))

    def hours(self, column: str) -> pd.DataFrame:
        """Hours added and removed by value of a column, the largest change first; only where there is any."""
        parts = {
            name: rows.groupby(column)["duration_s"].sum() / 3600
            for name, rows in (("added", self.added), ("removed", self.removed))
        }
        table = pd.DataFrame(parts).fillna(0.0)
        return table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]

    def durations(self) -> pd.DataFrame:
        """Duration percentiles in seconds, one row each for before, after and added, columns p10, p50 and p90."""
        parts = {"before": self.before, "after": self.after, "added": self.added}
        percentiles = {
            name: np.nanquantile(rows["duration_s"].astype(float), (0.1, 0.5, 0.9))
            for name, rows in parts.items()
            if rows["duration_s"].notna().any()
        }
        return pd.DataFrame.from_dict(percentiles, orient="index", columns=["p10", "p50", "p90"])

    def duration_shift(self) -> float:
        """Kolmogorov-Smirnov distance between the durations of the two versions: 0 if equal, 1 if disjoint."""
        a, b = (np.sort(rows["duration_s"].dropna().to_numpy(float)) for rows in (self.before, self.after))
        if not len(a) or not len(b):
            return 0.0
        points = np.concatenate([a, b])
        shares = (np.searchsorted(values, points, side="right") / len(values) for values in (a, b))
        return float(np.abs(np.subtract(*shares)).max())

    def sample_rates(self) -> pd.DataFrame:
        """Share of recordings (rate in Hz; before, after)."""
        table = pd.DataFrame(
            {
                name: rows["sample_rate"].value_counts(normalize=True)
                for name, rows in (("before", self.before), ("after", self.after))
            }
        )
        return table.fillna(0.0).sort_index()

    def as_json(self) -> dict[str, Any]:
        """The comparison for scripts: counts first, then every path."""
        return {
            "same": self.same,
            "alarms": self.alarms,
            "counts": {
                **{name: len(getattr(self, name)) for name in ("added", "removed", "renamed", "changed")},
                "before": _totals(self.before),
                "after": _totals(self.after),
            },
            "hours": {
                column: {
                    str(name): {
                        "added": round(float(row["added"]), 4),
                        "removed": round(float(row["removed"]), 4),
                    }
                    for name, row in self.hours(column).iterrows()
                }
                for column in ("source", "language", "speaker")
            },
            "speakers_new": self.speakers_new,
            "speakers_gone": self.speakers_gone,
            "moved": self.moved.to_dict("records"),
            "duration_s": {str(name): row.round(4).to_dict() for name, row in self.durations().iterrows()},
            "duration_shift": round(self.duration_shift(), 4),
            "sample_rates": {
                str(rate): row.round(4).to_dict() for rate, row in self.sample_rates().iterrows()
            },
            "added": self.added["path"].tolist(),
            "removed": self.removed["path"].tolist(),
            "renamed": self.renamed.to_dict("records"),
            "changed": [
                {
                    "path": row["path"],
                    "fields": {
                        name: {"before": row[f"{name}_before"], "after": row[name]}
                        for name in row["fields"]
                        if name != "recording"
                    },
                    "recording": "recording" in row["fields"],
                }
                for row in self.changed.to_dict("records")
            ],
        }


def compare(before: pd.DataFrame, after: pd.DataFrame) -> Diff:
    """Compare two manifests as read by `read_manifest`."""
    before, after = (_plain(rows) for rows in (before, after))
    old, new = _match(before, after)
    pairs = before.iloc[old].reset_index(drop=True).add_suffix("_before")
    pairs = pairs.join(after.iloc[new].reset_index(drop=True))
    renamed = pairs.loc[pairs["path"] != pairs["path_before"], ["path_before", "path"]]
    moved = _moved(before, after, pairs)
    return Diff(
        before,
        after,
        added=after.drop(index=after.index[new]),
        removed=before.drop(index=before.index[old]),
        renamed=renamed.reset_index(drop=True),
        changed=_changed(pairs),
        moved=moved,
        alarms=_alarms(moved, pairs),
    )


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.reset_index(drop=True)
    words = [name for name in (*FIELDS, "path", "sha256") if name != "synthetic"]
    return rows.assign(**{name: rows[name].fillna("").astype(str) for name in words})


def _match(before: pd.DataFrame, after: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Row indices (pairs,) in `before` and `after` of rows with the same recording or the same path."""
    free = [np.arange(len(before)), np.arange(len(after))]
    pairs = [np.zeros((0, 2), int)]
    for keys in KEYS:
        sides = []
        for rows, indices in zip((before, after), free, strict=True):
            side = rows.iloc[indices][list(keys)].assign(place=indices)
            side = side[side["sha256"] != ""] if "sha256" in keys else side
            sides.append(side.assign(turn=side.groupby(list(keys)).cumcount()))
        matches = sides[0].merge(sides[1], on=[*keys, "turn"], suffixes=("_old", "_new"))
        pairs.append(matches[["place_old", "place_new"]].to_numpy(int))
        free = [np.setdiff1d(indices, pairs[-1][:, i]) for i, indices in enumerate(free)]
    matched = np.concatenate(pairs)
    matched = matched[np.argsort(matched[:, 1], kind="stable")]
    return matched[:, 0], matched[:, 1]


def _changed(pairs: pd.DataFrame) -> pd.DataFrame:
    differs = {name: (pairs[name] != pairs[f"{name}_before"]).to_numpy() for name in FIELDS}
    known = (pairs["sha256"] != "") & (pairs["sha256_before"] != "")
    differs["recording"] = (known & (pairs["sha256"] != pairs["sha256_before"])).to_numpy()
    table = np.column_stack(list(differs.values()))
    names = np.array(list(differs))
    differ = pd.Series(table.any(axis=1), index=pairs.index)
    rows = pairs.loc[differ, ["path", *FIELDS, *(f"{name}_before" for name in FIELDS)]]
    fields = [tuple(map(str, names[row])) for row in table[table.any(axis=1)]]
    return rows.assign(fields=pd.Series(fields, index=rows.index, dtype=object)).reset_index(drop=True)


def _moved(before: pd.DataFrame, after: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Speakers of both versions whose set of splits has changed."""
    sides = [
        rows.groupby("speaker")["split"].agg(lambda s: " and ".join(sorted(set(s))))
        for rows in (before, after)
    ]
    table = pd.DataFrame({"before": sides[0], "after": sides[1]}).dropna()
    table = table[table["before"] != table["after"]]
    crossed = pairs[pairs["split"] != pairs["split_before"]].groupby("speaker").size()
    table["recordings"] = crossed.reindex(table.index).fillna(0).astype(int)
    return table.rename_axis("speaker").reset_index()


def _alarms(moved: pd.DataFrame, pairs: pd.DataFrame) -> list[str]:
    alarms = []
    for row in moved.to_dict("records"):
        was, now = (set(str(row[when]).split(" and ")) for when in ("before", "after"))
        for held in ("test", "dev"):
            if held in was and "train" not in was and "train" in now:
                alarms.append(
                    f"{held} speaker {row['speaker']} is now in train ({row['recordings']} recordings moved): a model "
                    "trained on this version has heard this speaker. Move the recordings back, or hold out other "
                    "speakers and do not compare results with the earlier version"
                )
        if "train" in was and "test" not in was and "test" in now:
            alarms.append(
                f"speaker {row['speaker']} moved from train to test: a model trained on the earlier version has heard "
                "this speaker. Train again from the start before you measure"
            )
    leaked = pairs[(pairs["split_before"] == "test") & (pairs["split"] == "train")]
    leaked = leaked[leaked["speaker"] != leaked["speaker_before"]]
    for (old, new), rows in leaked.groupby(["speaker_before", "speaker"]):
        alarms.append(
            f"{len(rows)} recordings of test speaker {old} are now in train under the name {new}: move them back"
        )
    return alarms


def _totals(rows: pd.DataFrame) -> dict[str, float | int]:
    return {
        "recordings": len(rows),
        "hours": round(float(rows["duration_s"].sum()) / 3600, 3),
        "speakers": int(rows["speaker"].nunique()),
        "languages": int(rows["language"].nunique()),
    }
