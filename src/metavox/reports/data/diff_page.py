"""A comparison of two versions in words and tables, for a terminal and for a page."""

from dataclasses import dataclass
from html import escape

import pandas as pd

from metavox.reports.data.diff import SHIFTED, Diff
from metavox.reports.page import bullets, details, page, section, table
from metavox.reports.wording import records

ROWS, NAMES, TEXT = 12, 8, 48  # rows of a table, names in a sentence, letters of a text


@dataclass(frozen=True)
class Table:
    caption: str
    heads: list[str]
    rows: list[list[str]]

    def html(self) -> str:
        return table(self.caption, self.heads, self.rows)


def diff_page(diff: Diff, before: str, after: str) -> str:
    """A whole page, of the comparison alone."""
    title = f"metavox: {after} against {before}"
    return page(title, [f"<h1>{escape(title)}</h1>", diff_section(diff, before)])


def diff_section(diff: Diff, before: str) -> str:
    alarms = "".join(
        f'<p class="gate failed"><strong>Careful.</strong> {escape(alarm)}.</p>' for alarm in diff.alarms
    )
    tables = "".join(
        details(one.html(), one.caption) if number else one.html()
        for number, one in enumerate(tables_of(diff))
    )
    return section(f"What changed since {before}", alarms + bullets(sentences(diff)) + tables)


def sentences(diff: Diff) -> list[str]:
    """What changed, the most important first; the alarms are not among them."""
    if diff.same:
        return ["Nothing: the same recordings, words, voices and splits."]
    out = [
        f"{len(diff.added):,} recordings added ({_time(diff.added)}), {len(diff.removed):,} removed "
        f"({_time(diff.removed)}), {len(diff.changed):,} changed, {len(diff.renamed):,} renamed."
    ]
    if len(diff.renamed):
        shards = int((diff.renamed["path"].map(_member) == diff.renamed["path_before"].map(_member)).sum())
        if shards:
            out.append(f"Of the renamed, {shards:,} only lie in another shard.")
    if len(diff.changed):
        fields = diff.changed["fields"].explode().value_counts()
        out.append("Changed: " + ", ".join(f"{name} of {count:,}" for name, count in fields.items()) + ".")
    for names, what in ((diff.voices_new, "New voices"), (diff.voices_gone, "Voices that are gone")):
        if names:
            out.append(f"{what}: {_some(names)}.")
    shift = diff.duration_shift()
    if shift > SHIFTED:
        middle = diff.durations()["p50"]
        out.append(
            f"Durations have shifted: half of the recordings lasted under {middle['before']:.2f} s, now "
            f"{middle['after']:.2f} s (distance {shift:.2f}; up to {SHIFTED:g} is alike)."
        )
    else:
        out.append(f"Durations are distributed as before (distance {shift:.2f}; up to {SHIFTED:g} is alike).")
    rates = diff.sample_rates()
    jumps = rates[(rates["after"] - rates["before"]).abs() > 0.05]
    if len(jumps):
        told = (
            f"{rate} Hz from {100 * row['before']:.0f} to {100 * row['after']:.0f}%"
            for rate, row in jumps.iterrows()
        )
        out.append("Sample rates have shifted: " + ", ".join(told) + " of the recordings.")
    return out


def tables_of(diff: Diff) -> list[Table]:
    """Only those that have something to show."""
    if diff.same:
        return []
    out = [_totals(diff)]
    if len(diff.moved):
        rows = [[r["voice"], r["before"], r["after"], str(r["recordings"])] for r in records(diff.moved)]
        out.append(
            Table("Voices on another split", ["voice", "before", "now", "moved recordings"], _cut(rows))
        )
    for column in ("source", "language", "voice"):
        hours = diff.hours(column)
        if len(hours):
            rows = [
                [str(name) or "(not given)", f"{row['added']:.2f}", f"{row['removed']:.2f}"]
                for name, row in hours.iterrows()
            ]
            out.append(Table(f"Hours by {column}", [column, "added", "removed"], _cut(rows)))
    told = diff.changed["voice"].isin(diff.moved["voice"]) & (diff.changed["fields"] == ("split",))
    changed = diff.changed[~told]
    if len(changed):
        rows = [
            [r["path"], ", ".join(r["fields"]), "; ".join(_change(r, name) for name in r["fields"])]
            for r in records(changed.iloc[: ROWS + 1])
        ]
        rows += [["", "", ""]] * (len(changed) - len(rows))
        out.append(Table("Changed recordings", ["recording", "what", "from and to"], _cut(rows)))
    renamed = diff.renamed[diff.renamed["path"].map(_member) != diff.renamed["path_before"].map(_member)]
    if len(renamed):
        rows = [[r["path_before"], r["path"]] for r in records(renamed)]
        out.append(Table("Renamed recordings", ["before", "now"], _cut(rows)))
    return out


def _totals(diff: Diff) -> Table:
    def of(rows: pd.DataFrame) -> list[float]:
        hours = float(rows["duration_s"].sum()) / 3600
        return [len(rows), hours, rows["voice"].nunique(), rows["language"].nunique()]

    rows = []
    names = ("recordings", "hours", "voices", "languages")
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
    return Table("The whole", ["", "before", "now", "change"], rows)


def _signed(change: str) -> str:
    """With its sign; "same" for what rounds to nothing."""
    if not change.strip("-0.,"):
        return "same"
    return change if change.startswith("-") else f"+{change}"


def _change(row: dict[str, object], name: str) -> str:
    if name == "recording":
        return "other sound"
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
