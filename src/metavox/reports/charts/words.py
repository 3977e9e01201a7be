"""Charts of how well words are distinguished."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metavox.intervals import Interval
from metavox.reports.charts import BLUE, GREY, ORANGE, SERIES, Chart
from metavox.reports.wording import records

ARM_COLOURS = {"before": GREY, "untrained": "#b9a15a", "joint": BLUE, "meta": ORANGE}
MARKS = "os^DvPX*<>hp"


def arms_chart(words: pd.DataFrame, task: str) -> Chart:
    """Accuracy of every arm on one task, as bars with intervals."""
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


def adaptation_chart(title: str, curves: Mapping[str, Mapping[int, Interval]]) -> Chart:
    """Accuracy by number of recordings per word, with a line for each of `curves` and intervals."""
    shots = sorted({shot for curve in curves.values() for shot in curve})

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for (name, curve), colour in zip(curves.items(), SERIES * len(curves), strict=False):
            x = [shots.index(shot) for shot in curve]
            mean = 100 * np.array([interval.mean for interval in curve.values()])
            axes.errorbar(
                x,
                mean,
                _half_widths(curve.values()),
                color=colour,
                marker="o",
                markersize=4,
                linewidth=1.5,
                capsize=3,
                label=name,
            )
        axes.set_xticks(range(len(shots)), list(map(str, shots)))
        axes.set(xlabel="recordings per word", ylabel="accuracy, %", title=title)
        axes.margins(x=0.08)
        axes.grid(linewidth=0.5)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)

    says = f"{title}, by recordings per word: " + "; ".join(
        f"{name} " + ", ".join(f"{100 * interval.mean:.0f}% with {shot}" for shot, interval in curve.items())
        for name, curve in curves.items()
    )
    return Chart(draw, 2.7 + 0.2 * -(-len(curves) // 2), f"{says}.")


def steps_chart(
    title: str, steps: Sequence[int], loss: Sequence[Interval], accuracy: Sequence[Interval]
) -> Chart:
    """Loss on the support and accuracy on the queries, over the training steps of a head."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharex=True)
        for axes, values, scale, name, colour in zip(
            panels,
            (loss, accuracy),
            (1, 100),
            ("training loss", "accuracy, %"),
            (GREY, BLUE),
            strict=True,
        ):
            mean, low, high = (
                scale * np.array([getattr(v, part) for v in values]) for part in ("mean", "low", "high")
            )
            axes.plot(steps, mean, color=colour, marker="o", markersize=3)
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.set(title=name, xlabel="step")
            axes.grid(linewidth=0.5)

    says = (
        f"{title}: over {steps[-1]} steps the loss goes from {loss[0].mean:.2f} to {loss[-1].mean:.2f}, and accuracy from "
        f"{100 * accuracy[0].mean:.1f} to {100 * accuracy[-1].mean:.1f} percent."
    )
    return Chart(draw, 2.3, says)


def confusion_chart(words: Sequence[str], rates: np.ndarray) -> Chart:
    """`rates` (words, words): the share of queries of the row's word that were recognised as the column's word."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(rates, cmap="Blues", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(rates):
            if np.isfinite(value) and value >= 0.005:
                ink = "white" if value > 0.5 else "#1c1f24"
                axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=ink)
        axes.set_xticks(range(len(words)), list(words), rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(words)), list(words))
        axes.set(xlabel="recognised as, %", ylabel="word")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    wrong = np.where(np.eye(len(words), dtype=bool) | ~np.isfinite(rates), 0, rates)
    i, j = map(int, np.unravel_index(int(wrong.argmax()), wrong.shape))
    says = f"The {len(words)} most confused words; most often {words[i]} is recognised as {words[j]}, {100 * wrong[i, j]:.0f} percent."
    return Chart(draw, 1.6 + 0.27 * len(words), says)


def embedding_chart(points: np.ndarray, words: np.ndarray, speakers: np.ndarray, method: str) -> Chart:
    """`points` (recordings, 2), coloured by word and marked by speaker."""
    word_names, speaker_names = list(dict.fromkeys(words)), list(dict.fromkeys(speakers))
    count = len(speaker_names)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for i, word in enumerate(word_names):
            for j, speaker in enumerate(speaker_names):
                own = points[(words == word) & (speakers == speaker)]
                axes.scatter(
                    own[:, 0],
                    own[:, 1],
                    s=14,
                    color=SERIES[i % len(SERIES)],
                    marker=MARKS[j % len(MARKS)],
                    alpha=0.75,
                    linewidths=0,
                )
        for i, word in enumerate(word_names):
            middle = np.median(points[words == word], axis=0)
            axes.annotate(
                str(word),
                middle,
                ha="center",
                va="center",
                fontsize=8,
                weight="bold",
                color=SERIES[i % len(SERIES)],
                bbox={"boxstyle": "round,pad=0.15", "fc": axes.get_facecolor(), "ec": "none", "alpha": 0.7},
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        if 1 < count <= len(MARKS):
            ink = axes.xaxis.label.get_color()
            handles = [axes.scatter([], [], s=14, color=ink, marker=mark) for mark in MARKS[:count]]
            figure.legend(
                handles, list(map(str, speaker_names)), loc="outside lower center", ncols=4, fontsize=7
            )

    says = f"{method} of the embeddings of {len(points)} recordings: {len(word_names)} words by {count} speakers."
    return Chart(draw, 4.0 + (0.15 * -(-count // 4) if count > 1 else 0), says)


def slices_chart(column: str, names: Sequence[str], values: Sequence[Interval]) -> Chart:
    """Accuracy for each value of a column, as bars with intervals."""

    def draw(figure: Figure) -> None:
        mean = 100 * np.array([interval.mean for interval in values])
        axes = figure.subplots()
        _bars(axes, list(names), mean, _half_widths(values), [BLUE] * len(names))
        axes.set(xlim=(0, 112), xlabel="right, %")

    order = sorted(zip(values, names, strict=True), key=lambda pair: pair[0].mean)
    ends = [f"{name} ({100 * value.mean:.0f} percent)" for value, name in (order[0], order[-1])]
    return Chart(draw, 0.7 + 0.24 * len(names), f"Accuracy by {column}, from {ends[0]} to {ends[1]}.")


def _half_widths(values: Iterable[Interval]) -> np.ndarray:
    """Distance from the mean to the lower and upper end of each interval, in percent, (2, values)."""
    return 100 * np.array([(value.mean - value.low, value.high - value.mean) for value in values]).T


def _colour(arm: str) -> str:
    return next((colour for name, colour in ARM_COLOURS.items() if name in arm), GREY)


def _bars(axes: Axes, names: list[str], values: np.ndarray, errors: np.ndarray, colours: list[str]) -> None:
    """Horizontal bars, the first at the top, with the value at the end of each."""
    place = np.arange(len(names))[::-1]
    ink = axes.xaxis.label.get_color()
    axes.barh(place, values, 0.7, xerr=errors, color=colours, error_kw={"ecolor": ink, "capsize": 2})
    for y, value, above in zip(place, values, errors[1], strict=True):
        axes.text(value + above + 1, y, f"{value:.0f}", va="center", fontsize=8)
    axes.set_yticks(place, names)
    axes.grid(axis="x", linewidth=0.5)
    axes.set_axisbelow(True)
