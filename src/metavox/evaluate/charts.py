"""Charts of the report: PNG bytes, the same for the same rows, once for a light and once for a dark page."""

import base64
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from metavox.evaluate.wording import records

WIDTH_IN, DPI = 4.6, 150  # narrow, so that a phone does not shrink the letters much
COLOURS = 128
BLUE, ORANGE, GREY = "#3b7dd8", "#d9822b", "#8a8f98"
LIGHT = {"paper": "#ffffff", "ink": "#1c1f24", "line": "#c9ced6"}
DARK = {"paper": "#16191e", "ink": "#e6e8eb", "line": "#4a515c"}
ARM_COLOURS = {"before": GREY, "untrained": "#b9a15a", "joint": BLUE, "meta": ORANGE}


@dataclass(frozen=True)
class Chart:
    """`draw` fills a figure; `says` is what it shows, for those who do not see it."""

    draw: Callable[[Figure], None]
    height_in: float
    says: str

    def html(self) -> str:
        light, dark = (data_uri(self._png(theme), "image/png") for theme in (LIGHT, DARK))
        return (
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img src="{light}" alt="{escape(self.says)}"></picture>'
        )

    def png(self) -> bytes:
        return self._png(LIGHT)

    def _png(self, theme: dict[str, str]) -> bytes:
        colours: dict[Any, Any] = {
            **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme["paper"]),
            **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), theme["ink"]),
            "axes.edgecolor": theme["line"], "grid.color": theme["line"], "legend.frameon": False,
            "font.family": "DejaVu Sans", "font.size": 9,
            "axes.spines.top": False, "axes.spines.right": False,
        }  # fmt: skip
        with rc_context(colours), warnings.catch_warnings():
            # A letter that the font lacks is drawn as a box; the tables beside the charts have it right.
            warnings.filterwarnings("ignore", message="Glyph")
            figure = Figure(figsize=(WIDTH_IN, self.height_in), dpi=DPI, layout="constrained")
            self.draw(figure)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        out = io.BytesIO()  # of few colours, which makes it three times smaller
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        return out.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def arms_chart(words: pd.DataFrame, task: str) -> Chart:
    """Accuracy of every arm on one task, a bar each with its interval."""
    rows = words[words["task"] == task].sort_values(["shots", "arm"], kind="stable")
    names = [
        row["arm"] if row["shots"] == 0 else f"{row['arm'].removeprefix('after: ')}, {row['shots']}-shot"
        for row in records(rows)
    ]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        colours = [_colour(str(arm)) for arm in rows["arm"]]
        errors = 100 * np.vstack([rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]])
        _bars(axes, names, 100 * rows["accuracy"].to_numpy(float), errors, colours)
        axes.set(xlim=(0, 108), xlabel="accuracy, %", title=task)

    best = rows.sort_values("accuracy").iloc[-1]
    says = (
        f"{task}: accuracy of {len(rows)} arms, from {100 * rows['accuracy'].min():.0f} to "
        f"{100 * best['accuracy']:.0f} percent; best: {best['arm']}. The table below has the numbers."
    )
    return Chart(draw, 0.8 + 0.24 * len(rows), says)


def voices_chart(voices: pd.DataFrame) -> Chart:
    """Character errors of each voice, before and after, with intervals."""
    rows = voices.sort_values("cer_before", kind="stable").reset_index(drop=True)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        place = np.arange(len(rows))
        for shift, when, colour in ((0.19, "before", GREY), (-0.19, "after", BLUE)):
            axes.barh(
                place + shift, 100 * rows[f"cer_{when}"], 0.36, xerr=100 * rows[f"cer_{when}_ci95"],
                color=colour, label=when, error_kw={"ecolor": axes.xaxis.label.get_color(), "capsize": 2},
            )  # fmt: skip
        axes.set_yticks(place, [f"{row['voice']} ({row['language']})" for row in records(rows)])
        axes.set_xlim(left=0)
        axes.set_xlabel("character error rate, % (lower is better)")
        axes.grid(axis="x", linewidth=0.5)
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper right", ncols=2)

    better = int((rows["cer_after"] < rows["cer_before"]).sum())
    says = (
        f"Character error rate of {len(rows)} voices before and after adaptation; lower after for {better}."
    )
    return Chart(draw, 1.0 + 0.42 * len(rows), says)


def curve_chart(name: str, rows: pd.DataFrame) -> Chart | None:
    """Columns of numbers over `step`, smoothed; a line for each arm or voice where the rows name them."""
    numbers = [
        c for c in rows.columns
        if c != "step" and pd.api.types.is_numeric_dtype(rows[c]) and rows[c].notna().any()
    ]  # fmt: skip
    if "step" not in rows or not numbers or rows.empty:
        return None
    parts = next((c for c in ("arm", "voice") if c in rows.columns), None)

    def draw(figure: Figure) -> None:
        parted = list(rows.groupby(parts, sort=False)) if parts else [("", rows)]
        panels = np.atleast_1d(figure.subplots(1, len(numbers), sharex=True))
        for axes, column in zip(panels, numbers, strict=True):
            for part, own in parted:
                own = own[["step", column]].dropna()
                smooth = own[column].rolling(max(1, len(own) // 25), min_periods=1).mean()
                axes.plot(own["step"], smooth, linewidth=1.4, label=str(part) or None)
            axes.set(title=column, xlabel="step")
            axes.locator_params(axis="x", nbins=4)
            axes.grid(linewidth=0.5)
        if parts:
            figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    def change(column: str) -> str:
        values = rows[column].dropna()
        return f"{column} from {values.iloc[0]:.3g} to {values.iloc[-1]:.3g}"

    says = f"Training curves of {name}: {', '.join(map(change, numbers))}."
    legend = 0.0 if not parts else 0.2 * -(-rows[parts].nunique() // 3)
    return Chart(draw, 2.2 + legend, says)


def _colour(arm: str) -> str:
    return next((colour for name, colour in ARM_COLOURS.items() if name in arm), GREY)


def _bars(axes: Axes, names: list[str], values: np.ndarray, errors: np.ndarray, colours: list[str]) -> None:
    """Horizontal bars, the first on top, with the number at the end of each."""
    place = np.arange(len(names))[::-1]
    ink = axes.xaxis.label.get_color()
    axes.barh(place, values, 0.7, xerr=errors, color=colours, error_kw={"ecolor": ink, "capsize": 2})
    for y, value, above in zip(place, values, errors[1], strict=True):
        axes.text(value + above + 1, y, f"{value:.0f}", va="center", fontsize=8)
    axes.set_yticks(place, names)
    axes.grid(axis="x", linewidth=0.5)
    axes.set_axisbelow(True)
