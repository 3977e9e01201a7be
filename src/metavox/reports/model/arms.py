"""The arms in the model report: the headline before and after adaptation, and the accuracy of every arm."""

from pathlib import Path

import pandas as pd

from metavox.metrics.rates import Interval
from metavox.reports.charts import Chart
from metavox.reports.charts.words import adaptation_chart, arms_chart
from metavox.reports.model.stage_results import read_json
from metavox.reports.render import Table
from metavox.reports.wording import Row, percent, rate, recordings, records

MEASURES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "at_1": "accuracy at 1% false accepts",
    "at_5": "accuracy at 5% false accepts",
}
ERRORS = {"equal_error": "equal error rate", "ece": "expected calibration error"}
RATES = {
    "cer": "character error rate (lower is better)",
    "wer": "word error rate (lower is better)",
}


def headline(headline: Row) -> Table:
    rows = [
        [name, *(percent(headline[key][when]) for when in ("before", "after"))]
        for key, name in (MEASURES | RATES).items()
        if key in headline
    ]
    caption = (
        f"Percent, with 95% intervals. Words: {headline['task']}, {recordings(headline['shots'])} of each, "
        f"{headline['arm']}; before: no recordings. Error rates: free speech of held-out speakers."
    )
    return Table(caption, ["", "before", "after"], rows)


def unmeasured(artifacts: Path) -> list[str]:
    """Sentences on the components that have no baseline in this report."""
    out = []
    chosen = read_json(artifacts / "metrics/metatrain.json").get("chosen")
    if chosen:
        out.append(f"The {chosen} arm is packaged. It was chosen on development speakers, not on these.")
    losses = read_json(artifacts / "metrics/pretrain.json")
    if {"dev_loss_before", "dev_loss"} <= set(losses):
        out.append(
            f"Pretraining lowered its own loss on development speakers from {losses['dev_loss_before']:.3g} to "
            f"{losses['dev_loss']:.3g}. This report does not measure its effect on recognition."
        )
    gan = read_json(artifacts / "metrics/augment.json")
    if gan:
        state = (
            "collapsed: its environments are all alike"
            if gan.get("collapsed")
            else "generates different environments"
        )
        out.append(f"The GAN {state}. This report does not measure its effect on recognition.")
    return out


def curves_by_shots(words: pd.DataFrame) -> list[Chart]:
    """One chart per task: accuracy by number of recordings per word."""
    out = []
    for task, own in words[words["shots"] > 0].groupby("task", sort=False):
        lines = {
            str(arm).removeprefix("after: "): {
                int(r["shots"]): Interval(r["accuracy"], r["accuracy_ci95"]) for r in records(rows)
            }
            for arm, rows in own.sort_values("shots", kind="stable").groupby("arm", sort=False)
        }
        out.append(adaptation_chart(str(task), lines))
    return out


def arms(words: pd.DataFrame) -> list[tuple[Chart, Table]]:
    """The accuracy of every arm, a chart and its numbers for each task."""
    columns = MEASURES | ERRORS
    measured = [name for name in columns if name in words.columns and words[name].notna().any()]
    heads = ["arm", "recordings per word", *(columns[name] for name in measured)]
    out = []
    for task in words["task"].drop_duplicates():
        own = words[words["task"] == task].sort_values(["shots", "arm"], kind="stable")
        rows = [[r["arm"], str(r["shots"]), *(rate(r, name) for name in measured)] for r in records(own)]
        caption = f"{task}: percent with 95% intervals over {own['episodes'].min()} episodes"
        out.append((arms_chart(words, str(task)), Table(caption, heads, rows)))
    return out
