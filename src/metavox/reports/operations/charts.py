"""Charts of the operations page."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from metavox.reports.charts import BLUE, GREEN, GREY, ORANGE, RED, Chart

OUTCOMES = {"promote": GREEN, "canary": ORANGE, "keep": BLUE, "refuse": RED}


def errors_chart(history: pd.DataFrame) -> Chart:
    """The champion's error rate after each batch, on the recordings of earlier batches and on the newest."""
    rows = history[history[["fixed_after", "newest_after"]].notna().any(axis=1)].reset_index(drop=True)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for column, label, colour in (
            ("fixed", "earlier recordings", BLUE),
            ("newest", "newest recordings", ORANGE),
        ):
            axes.plot(rows.index, 100 * rows[f"{column}_after"], color=colour, marker="o", label=label)
            axes.plot(
                rows.index, 100 * rows[f"{column}_before"], color=colour, marker="o", linestyle=":", alpha=0.6
            )
        axes.set_xticks(rows.index, [_day(batch) for batch in rows["batch"]], rotation=30, ha="right")
        axes.set_ylabel("error rate of the champion, %")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", linewidth=0.5)
        figure.legend(loc="outside upper right", ncols=2)

    last = rows.iloc[-1]
    says = f"The champion's error rate over {len(rows)} batches; after the last, {100 * last['newest_after']:.1f}% on the newest recordings."
    return Chart(draw, 2.8, says)


def batches_chart(history: pd.DataFrame) -> Chart:
    """What each batch was like for the champion that received it, coloured by the decision."""
    rows = history.reset_index(drop=True)
    measures = (
        ("error_rate", "errors, %"),
        ("confidence", "confidence, %"),
        ("contradicted", "labels contradicted, %"),
    )

    def draw(figure: Figure) -> None:
        panels = np.atleast_1d(figure.subplots(len(measures), 1, sharex=True))
        for axes, (column, label) in zip(panels, measures, strict=True):
            colours = [OUTCOMES.get(str(outcome), GREY) for outcome in rows["outcome"]]
            axes.bar(rows.index, 100 * rows[column].astype(float), color=colours)
            axes.set_title(label, loc="left")
            axes.set_ylim(0, 100)
            axes.grid(axis="y", linewidth=0.5)
            axes.set_axisbelow(True)
        panels[-1].set_xticks(rows.index, [_day(batch) for batch in rows["batch"]], rotation=30, ha="right")
        present = [name for name in OUTCOMES if name in set(rows["outcome"])]
        handles = [axes.bar(0, 0, color=OUTCOMES[name]) for name in present]
        figure.legend(handles, present, loc="outside lower center", ncols=4)

    says = f"Errors, confidence and contradicted labels of the champion on {len(rows)} batches, as they came."
    return Chart(draw, 4.2, says)


def durations_chart(stages: pd.DataFrame) -> Chart:
    """How long each stage took, run by run."""
    ran = stages[stages["outcome"] == "ran"]
    ran = ran if len(ran) else stages
    names = list(dict.fromkeys(ran["stage"]))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, name in enumerate(names):
            own = ran[ran["stage"] == name]["seconds"].to_numpy(float)
            axes.plot(own, np.full(len(own), place), "o", color=BLUE, alpha=0.6)
            axes.plot(np.median(own), place, "|", color=axes.xaxis.label.get_color(), markersize=16)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds (logarithmic); the bar is the median")
        axes.grid(axis="x", linewidth=0.5)

    says = f"Durations of {len(names)} stages over {ran['run'].nunique()} runs."
    return Chart(draw, 0.9 + 0.32 * len(names), says)


def _day(batch: object) -> str:
    return str(batch)[5:16].replace("T", " ")
