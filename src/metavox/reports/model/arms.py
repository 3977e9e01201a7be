"""Sections on the arms: the gate, before and after, and what every arm is worth."""

from html import escape
from pathlib import Path

import pandas as pd

from metavox.metrics.rates import Interval
from metavox.reports.charts.words import adaptation_chart, arms_chart
from metavox.reports.model.material import read_json
from metavox.reports.page import details, section, table
from metavox.reports.wording import Row, percent, recordings, records

MEASURES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "at_1": "accuracy at 1% false accepts",
    "at_5": "accuracy at 5% false accepts",
    "cer": "character error rate (lower is better)",
    "wer": "word error rate (lower is better)",
}
COLUMNS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "at_1": "at 1% false accepts",
    "at_5": "at 5%",
    "equal_error": "equal error rate",
    "ece": "calibration error",
}


def gate(gate: Row) -> str:
    state = "passed" if gate["passed"] else "failed"
    return f'<p class="gate {state}"><strong>The gate {state}.</strong> {escape(str(gate["reason"]))}</p>'


def headline(headline: Row) -> str:
    rows = [
        [name, *(percent(headline[key][when]) for when in ("before", "after"))]
        for key, name in MEASURES.items()
        if key in headline
    ]
    caption = (
        f"Percent, with 95% intervals. Words: {headline['task']}, {recordings(headline['shots'])} of each, "
        f"{headline['arm']}; before: no recording. Errors: free speech of held-out voices."
    )
    return section("Before and after adaptation", table(caption, ["", "before", "after"], rows))


def unmeasured(artifacts: Path) -> list[str]:
    """Components that have no baseline here, said so."""
    out = []
    chosen = read_json(artifacts / "metrics/metatrain.json").get("chosen")
    if chosen:
        out.append(f"Packaged is the {chosen} arm; it was chosen on development voices, not on these.")
    losses = read_json(artifacts / "metrics/pretrain.json")
    if {"dev_loss_before", "dev_loss"} <= set(losses):
        out.append(
            f"Pretraining lowered its own loss on development voices from {losses['dev_loss_before']:.3g} to "
            f"{losses['dev_loss']:.3g}; what that is worth to recognition is not measured in this report."
        )
    gan = read_json(artifacts / "metrics/augment.json")
    if gan:
        state = (
            "collapsed: its environments are all alike"
            if gan.get("collapsed")
            else "makes different environments"
        )
        out.append(f"The GAN {state}; what it is worth to recognition is not measured in this report.")
    return out


def curves_by_shots(words: pd.DataFrame) -> str:
    """Accuracy over recordings a word, a chart a task; a dot where there is one number of recordings only."""
    out = []
    for task, own in words[words["shots"] > 0].groupby("task", sort=False):
        lines = {
            str(arm).removeprefix("after: "): {
                int(r["shots"]): Interval(r["accuracy"], r["accuracy_ci95"]) for r in records(rows)
            }
            for arm, rows in own.sort_values("shots", kind="stable").groupby("arm", sort=False)
        }
        out.append(f"<figure>{adaptation_chart(str(task), lines).html()}</figure>")
    return "".join(out)


def arms(words: pd.DataFrame, budget: Row) -> str:
    """`budget`: the metrics of meta-training, which say what each arm was given."""
    measured = [name for name in COLUMNS if name in words.columns and words[name].notna().any()]
    out = [f"<p class=soft>{escape(_budget(budget))}</p>"] if budget else []
    for task in words["task"].drop_duplicates():
        own = words[words["task"] == task].sort_values(["shots", "arm"], kind="stable")
        rows = [[r["arm"], str(r["shots"]), *(_rate(r, m) for m in measured)] for r in records(own)]
        caption = f"{task}: percent with 95% intervals over {own['episodes'].min()} episodes"
        heads = ["arm", "recordings a word", *(COLUMNS[m] for m in measured)]
        numbers = details(table(caption, heads, rows))
        out.append(f"<figure>{arms_chart(words, str(task)).html()}</figure>{numbers}")
    return "".join(out)


def _budget(trained: Row) -> str:
    steps = ", ".join(f"{name} {count} steps" for name, count in dict(trained.get("steps") or {}).items())
    return f"Trained for an equal budget: {steps}; the arms begin where the warm-up ends. Untrained is what the network is worth by itself."


def _rate(row: Row, measure: str) -> str:
    if pd.isna(row[measure]):
        return "not measured"
    return percent({"mean": row[measure], "ci95": row[f"{measure}_ci95"]})
