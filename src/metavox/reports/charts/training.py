"""Charts of training curves, and of error rates by speaker."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from metavox.reports.charts import BLUE, GREY, Chart
from metavox.reports.wording import records


def speakers_chart(speakers: pd.DataFrame) -> Chart:
    """Character error rate of each speaker before and after adaptation, with intervals."""
    rows = speakers.sort_values("cer_before", kind="stable").reset_index(drop=True)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        place = np.arange(len(rows))
        for shift, when, colour in ((0.19, "before", GREY), (-0.19, "after", BLUE)):
            axes.barh(
                place + shift,
                100 * rows[f"cer_{when}"],
                0.36,
                xerr=100 * rows[f"cer_{when}_ci95"],
                color=colour,
                label=when,
                error_kw={"ecolor": axes.xaxis.label.get_color(), "capsize": 2},
            )
        axes.set_yticks(place, [f"{row['speaker']} ({row['language']})" for row in records(rows)])
        axes.set_xlim(left=0)
        axes.set_xlabel("character error rate, % (lower is better)")
        axes.grid(axis="x", linewidth=0.5)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper right", ncols=2)

    better = int((rows["cer_after"] < rows["cer_before"]).sum())
    says = (
        f"Character error rate of {len(rows)} speakers before and after adaptation; lower after for {better}."
    )
    return Chart(draw, 1.0 + 0.42 * len(rows), says)


def curve_chart(name: str, rows: pd.DataFrame) -> Chart | None:
    """Numeric columns over `step`, smoothed, with a line for each arm or speaker; None without any values."""
    numbers = [
        c
        for c in rows.columns
        if c != "step" and pd.api.types.is_numeric_dtype(rows[c]) and rows[c].notna().any()
    ]
    if "step" not in rows or not numbers or rows.empty:
        return None
    group = next((c for c in ("arm", "speaker") if c in rows.columns), None)

    def draw(figure: Figure) -> None:
        groups = list(rows.groupby(group, sort=False)) if group else [("", rows)]
        panels = np.atleast_1d(figure.subplots(1, len(numbers), sharex=True))
        for axes, column in zip(panels, numbers, strict=True):
            for name, own in groups:
                own = own[["step", column]].dropna()
                smooth = own[column].rolling(max(1, len(own) // 25), min_periods=1).mean()
                axes.plot(own["step"], smooth, linewidth=1.4, label=str(name) or None)
            axes.set(title=column, xlabel="step")
            axes.locator_params(axis="x", nbins=4)
            axes.grid(linewidth=0.5)
        if group:
            figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    def change(column: str) -> str:
        values = rows[column].dropna()
        return f"{column} from {values.iloc[0]:.3g} to {values.iloc[-1]:.3g}"

    says = f"Training curves of {name}: {', '.join(map(change, numbers))}."
    legend = 0.0 if not group else 0.2 * -(-rows[group].nunique() // 3)
    return Chart(draw, 2.2 + legend, says)
