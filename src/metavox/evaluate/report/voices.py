"""Sections on held-out voices: errors before and after, by whom, and what was heard."""

import pandas as pd

from metavox.evaluate.charts.training import voices_chart
from metavox.evaluate.page import details, table
from metavox.evaluate.wording import Row, percent, records
from metavox.text import without_spaces

RATES = {
    "cer_before": "CER before",
    "cer_after": "CER after",
    "wer_before": "WER before",
    "wer_after": "WER after",
}


def voices_section(voices: pd.DataFrame) -> str:
    if voices.empty:
        return "<p>No held-out voice was adapted to.</p>"
    columns = ("cer_before", "cer_after", "wer_before", "wer_after")
    rows = [
        [r["voice"], r["language"], str(r["queries"]), *(_rate(r, c) for c in columns)]
        for r in records(voices)
    ]
    heads = ["voice", "language", "recordings", "CER before", "CER after", "WER before", "WER after"]
    caption = "Character and word error rates, percent with 95% bootstrap intervals"
    if "said" in voices.columns and voices["said"].map(without_spaces).any():
        caption += "; text that is written without spaces between words has characters for words"
    return f"<figure>{voices_chart(voices).html()}</figure>{details(table(caption, heads, rows))}"


def errors_by(groups: pd.DataFrame) -> str:
    """`groups`: a row a value of a column, with the rates of RATES over all its voices."""
    out = []
    for column, rows in groups.groupby("by", sort=False):
        lines = [
            [r["value"], str(r["voices"]), str(r["queries"]), *(_rate(r, name) for name in RATES)]
            for r in records(rows)
        ]
        caption = f"By {column}: percent with 95% bootstrap intervals over utterances"
        out.append(table(caption, [str(column), "voices", "recordings", *RATES.values()], lines))
    return details("".join(out), "By language, environment and source") if out else ""


def heard(voices: pd.DataFrame) -> str:
    columns = ("said", "heard_before", "heard_after")
    if voices.empty or not set(columns) <= set(voices.columns):
        return "<p>No example was kept.</p>"
    rows = [
        [f"{r['voice']} ({r['language']})", *(str(r[c]) or "(nothing)" for c in columns)]
        for r in records(voices)
    ]
    caption = "The first query of each voice, not picked for how it went"
    return table(caption, ["voice", "said", "heard before", "heard after"], rows)


def _rate(row: Row, measure: str) -> str:
    return percent({"mean": row[measure], "ci95": row[f"{measure}_ci95"]})
