"""Held-out speakers in the model report: error rates before and after adaptation, and transcripts."""

from typing import Any

import pandas as pd

from metavox.reports.charts.training import speakers_chart
from metavox.reports.render import Table
from metavox.reports.wording import rate, records
from metavox.text import without_spaces

RATES = {
    "cer_before": "CER before",
    "cer_after": "CER after",
    "wer_before": "WER before",
    "wer_after": "WER after",
}


def speakers_section(speakers: pd.DataFrame) -> dict[str, Any] | None:
    """A chart and its numbers, one row per speaker; None without speakers."""
    if speakers.empty:
        return None
    rows = [
        [r["speaker"], r["language"], str(r["queries"]), *(rate(r, name) for name in RATES)]
        for r in records(speakers)
    ]
    caption = "Character and word error rates, percent with 95% bootstrap intervals"
    if "reference" in speakers.columns and speakers["reference"].map(without_spaces).any():
        caption += "; in text that is written without spaces, characters count as words"
    heads = ["speaker", "language", "recordings", *RATES.values()]
    return {"chart": speakers_chart(speakers), "numbers": Table(caption, heads, rows)}


def errors_by(groups: pd.DataFrame) -> list[Table]:
    """One table per column in `by`, one row per value, with the rates of RATES over all its speakers."""
    out = []
    for column, rows in groups.groupby("by", sort=False):
        lines = [
            [r["value"], str(r["speakers"]), str(r["queries"]), *(rate(r, name) for name in RATES)]
            for r in records(rows)
        ]
        caption = f"By {column}: percent with 95% bootstrap intervals over utterances"
        out.append(Table(caption, [str(column), "speakers", "recordings", *RATES.values()], lines))
    return out


def transcripts(speakers: pd.DataFrame) -> Table | None:
    columns = ("reference", "transcript_before", "transcript_after")
    if speakers.empty or not set(columns) <= set(speakers.columns):
        return None
    rows = [
        [f"{r['speaker']} ({r['language']})", *(str(r[name]) or "(nothing)" for name in columns)]
        for r in records(speakers)
    ]
    caption = "The first query of each speaker; examples were not selected"
    return Table(caption, ["speaker", "spoken", "recognised before", "recognised after"], rows)
