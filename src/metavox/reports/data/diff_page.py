"""The comparison of two corpus versions in sentences and tables, for the terminal and for a page."""

from typing import Any

import pandas as pd

from metavox.reports.data.diff import SHIFTED, Diff
from metavox.reports.render import Table, render
from metavox.reports.wording import records

ROWS, NAMES, TEXT = 12, 8, 48  # rows of a table, names in a sentence, letters of a text


def diff_page(diff: Diff, before: str, after: str) -> str:
    """The HTML page of the comparison alone."""
    return render("diff.html", before=before, after=after, changes=changes(diff, before))


def changes(diff: Diff, before: str) -> dict[str, Any]:
    """The `changes` of changes.html."""
    return {
        "before": before,
        "alarms": diff.alarms,
        "sentences": sentences(diff),
        "tables": tables_of(diff),
    }


def sentences(diff: Diff) -> list[str]:
    """What changed, the most important first, without the alarms."""
    if diff.same:
        return ["Nothing changed: recordings, words, speakers and splits are the same."]
    out = [
        f"{len(diff.added):,} recordings added ({_time(diff.added)}), {len(diff.removed):,} removed "
        f"({_time(diff.removed)}), {len(diff.changed):,} changed, {len(diff.renamed):,} renamed."
    ]
    if len(diff.renamed):
        shards = int((diff.renamed["path"].map(_member) == diff.renamed["path_before"].map(_member)).sum())
        if shards:
            out.append(f"Of the renamed recordings, {shards:,} only moved to another shard.")
    if len(diff.changed):
        fields = diff.changed["fields"].explode().value_counts()
        out.append("Changed: " + ", ".join(f"{name} of {count:,}" for name, count in fields.items()) + ".")
    for names, what in ((diff.speakers_new, "New speakers"), (diff.speakers_gone, "Removed speakers")):
        if names:
            out.append(f"{what}: {_some(names)}.")
    shift = diff.duration_shift()
    if shift > SHIFTED:
        middle = diff.durations()["p50"]
        out.append(
            f"Durations have shifted: the median was {middle['before']:.2f} s and is now {middle['after']:.2f} s "
            f"(distance {shift:.2f}; up to {SHIFTED:g} counts as unchanged)."
        )
    else:
        out.append(f"The distribution of durations is unchanged (distance {shift:.2f}, at most {SHIFTED:g}).")
    rates = diff.sample_rates()
    jumps = rates[(rates["after"] - rates["before"]).abs() > 0.05]
    if len(jumps):
        shifts = (
            f"{rate} Hz from {100 * row['before']:.0f} to {100 * row['after']:.0f}%"
            for rate, row in jumps.iterrows()
        )
        out.append("Sample rates have shifted: " + ", ".join(shifts) + " of the recordings.")
    return out


def tables_of(diff: Diff) -> list[Table]:
    """The tables of the comparison that are not empty."""
    if diff.same:
        return []
    out = [_totals(diff)]
    if len(diff.moved):
        rows = [[r["speaker"], r["before"], r["after"], str(r["recordings"])] for r in records(diff.moved)]
        out.append(
            Table("Speakers in another split", ["speaker", "before", "now", "moved recordings"], _cut(rows))
        )
    for column in ("source", "language", "speaker"):
        hours = diff.hours(column)
        if len(hours):
            rows = [
                [str(name) or "(not given)", f"{row['added']:.2f}", f"{row['removed']:.2f}"]
                for name, row in hours.iterrows()
            ]
            out.append(Table(f"Hours by {column}", [column, "added", "removed"], _cut(rows)))
    only_moved = diff.changed["speaker"].isin(diff.moved["speaker"]) & (diff.changed["fields"] == ("split",))
    changed = diff.changed[~only_moved]
    if len(changed):
        rows = [
            [r["path"], ", ".join(r["fields"]), "; ".join(_change(r, name) for name in r["fields"])]
            for r in records(changed.iloc[: ROWS + 1])
        ]
        rows += [["", "", ""]] * (len(changed) - len(rows))
        out.append(Table("Changed recordings", ["recording", "column", "before → now"], _cut(rows)))
    renamed = diff.renamed[diff.renamed["path"].map(_member) != diff.renamed["path_before"].map(_member)]
    if len(renamed):
        rows = [[r["path_before"], r["path"]] for r in records(renamed)]
        out.append(Table("Renamed recordings", ["before", "now"], _cut(rows)))
    return out


def _totals(diff: Diff) -> Table:
    def of(rows: pd.DataFrame) -> list[float]:
        hours = float(rows["duration_s"].sum()) / 3600
        return [len(rows), hours, rows["speaker"].nunique(), rows["language"].nunique()]

    rows = []
    names = ("recordings", "hours", "speakers", "languages")
    for name, old, new in zip(names, of(diff.before), of(diff.after), strict=True):
        form = "{:,.2f}" if name == "hours" else "{:,.0f}"
        rows.append([name, form.format(old), form.format(new), _signed(form.format(new - old))])
    durations = diff.durations()
    if {"before", "after"} <= set(durations.index):
        middle = durations["p50"]
        old, new = float(middle["before"]), float(middle["after"])
        rows.append(["median duration, s", f"{old:.2f}", f"{new:.2f}", _signed(f"{new - old:.2f}")])
    for rate, row in diff.sample_rates().iterrows():
        old, new = (100 * row[when] for when in ("before", "after"))
        if max(old, new) >= 1:
            rows.append([f"at {rate} Hz, %", f"{old:.1f}", f"{new:.1f}", _signed(f"{new - old:.1f}")])
    return Table("Totals", ["", "before", "now", "change"], rows)


def _signed(change: str) -> str:
    """The change with its sign; "same" if it rounds to zero."""
    if not change.strip("-0.,"):
        return "same"
    return change if change.startswith("-") else f"+{change}"


def _change(row: dict[str, object], name: str) -> str:
    if name == "recording":
        return "different audio"
    old, new = (_clip(str(row[key])) for key in (f"{name}_before", name))
    return f"{old} → {new}"


def _clip(text: str) -> str:
    return (text if len(text) <= TEXT else text[: TEXT - 1] + "…") or "(empty)"


def _cut(rows: list[list[str]]) -> list[list[str]]:
    if len(rows) <= ROWS + 1:
        return rows
    return [*rows[:ROWS], [f"… and {len(rows) - ROWS:,} more", *[""] * (len(rows[0]) - 1)]]


def _member(path: str) -> str:
    """The path inside its shard: repacking moves recordings from one to another."""
    return path.rsplit(".tar/", 1)[-1]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"{', '.join(names[:NAMES])}{more}"


def _time(rows: pd.DataFrame) -> str:
    seconds = float(rows["duration_s"].sum())
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds:.0f} s"
