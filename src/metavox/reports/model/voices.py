"""What the model report says of held-out speakers: error rates before and after adaptation, and transcripts."""

from typing import Any

import pandas as pd

from metavox.reports.charts.training import voices_chart
from metavox.reports.render import Table
from metavox.reports.wording import rate, records
from metavox.text import without_spaces

RATES = {
    "cer_before": "CER before",
    "cer_after": "CER after",
    "wer_before": "WER before",
    "wer_after": "WER after",
}


def voices_section(voices: pd.DataFrame) -> dict[str, Any] | None:
    """A chart and its numbers, one row per speaker; None without speakers."""
    if voices.empty:
        return None
    rows = [
        [r["voice"], r["language"], str(r["queries"]), *(rate(r, name) for name in RATES)]
        for r in records(voices)
    ]
    caption = "Character and word error rates, percent with 95% bootstrap intervals"
    if "said" in voices.columns and voices["said"].map(without_spaces).any():
        caption += "; in text that is written without spaces, characters count as words"
    heads = ["speaker", "language", "recordings", *RATES.values()]
    return {"chart": voices_chart(voices), "numbers": Table(caption, heads, rows)}


def errors_by(groups: pd.DataFrame) -> list[Table]:
    """One table per column in `by`, one row per value, with the rates of RATES over all its speakers."""
    out = []
    for column, rows in groups.groupby("by", sort=False):
        lines = [
            [r["value"], str(r["voices"]), str(r["queries"]), *(rate(r, name) for name in RATES)]
            for r in records(rows)
        ]
        caption = f"By {column}: percent with 95% bootstrap intervals over utterances"
        out.append(Table(caption, [str(column), "speakers", "recordings", *RATES.values()], lines))
    return out


def transcripts(voices: pd.DataFrame) -> Table | None:
    columns = ("said", "heard_before", "heard_after")
    if voices.empty or not set(columns) <= set(voices.columns):
        return None
    rows = [
        [f"{r['voice']} ({r['language']})", *(str(r[name]) or "(nothing)" for name in columns)]
        for r in records(voices)
    ]
    caption = "The first query of each speaker; examples were not selected"
    return Table(caption, ["speaker", "spoken", "recognised before", "recognised after"], rows)
