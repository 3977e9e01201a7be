"""Charts of the data report: hours, measures with the gate's limits, bandwidth by speaker, words in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metavox.reports.charts import BLUE, GREY, ORANGE, Chart
from metavox.reports.wording import records

RED = "#c8352b"
MAX_BARS = 14  # the other values share one bar
BAND_SPEAKERS, MATRIX_SPEAKERS = 36, 24
KINDS = (("recorded", BLUE), ("synthetic", ORANGE))
BINS = 40
COLUMNS = 220  # of a spectrogram; more would make the file larger but not clearer


@dataclass(frozen=True)
class Measure:
    """A column of the prepared manifest, and the gate's limits on it (None: no limit)."""

    column: str
    title: str
    unit: str
    about: str  # explanation for readers of the report
    low: float | None = None
    high: float | None = None
    log: bool = False
    zoom: tuple[float, float] = (0.0, 1.0)  # quantiles; values beyond them join the outermost bars

    def beyond(self, rows: pd.DataFrame) -> list[tuple[str, float, int]]:
        """For each limit: its side ("least" or "most"), its value, and the number of recordings beyond it."""
        values = rows[self.column]
        out = []
        if self.low is not None:
            out.append(("least", self.low, int((values < self.low).sum())))
        if self.high is not None:
            out.append(("most", self.high, int((values > self.high).sum())))
        return out


def hours_by(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Hours (value of the column; recorded, synthetic), the most first."""
    kind = np.where(rows["synthetic"].astype(bool), "synthetic", "recorded")
    name = rows[column].astype(str).replace("", "(not given)")
    hours = (rows["duration_s"] / 3600).groupby([name, kind]).sum().unstack(fill_value=0)
    hours = hours.reindex(columns=[name for name, _ in KINDS], fill_value=0.0)
    return hours.loc[hours.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def hours_chart(rows: pd.DataFrame, column: str, plural: str) -> Chart:
    """A bar for each of the values with most hours, and one bar for all others."""
    hours = hours_by(rows, column)
    rest = hours.iloc[MAX_BARS:]
    shown = hours.iloc[:MAX_BARS]
    if len(rest) == 1:
        shown, rest = hours, hours.iloc[:0]
    if len(rest):
        shown = pd.concat([shown, rest.sum().to_frame(f"{len(rest)} others").T])
    total = shown.sum(axis=1)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        place = np.arange(len(shown))[::-1]
        left = np.zeros(len(shown))
        for kind, colour in KINDS:
            if shown[kind].any():
                axes.barh(place, shown[kind], 0.72, left=left, color=colour, label=kind)
            left += shown[kind].to_numpy(float)
        for y, value in zip(place, total, strict=True):
            axes.text(value + total.max() * 0.01, y, _hours(value), va="center", fontsize=8)
        axes.set_yticks(place, [_short(str(name)) for name in shown.index])
        axes.set(xlabel="hours", xlim=(0, max(total.max() * 1.14, 1e-9)))
        _grid(axes, "x")
        if total.any():
            figure.legend(loc="outside upper right", ncols=2)

    first = ", ".join(f"{name} {_hours(value)}" for name, value in total.iloc[:4].items())
    says = f"Hours of {len(hours)} {plural}, recorded and synthetic; most: {first}."
    return Chart(draw, 0.85 + 0.2 * len(shown), says)


def measure_chart(rows: pd.DataFrame, measure: Measure) -> Chart | None:
    """A stacked histogram of the measure for recorded and synthetic speech, with the limits; None without values."""
    known = rows[np.isfinite(rows[measure.column].astype(float))]
    if measure.log:
        known = known[known[measure.column] > 0]
    if known.empty:
        return None
    values = known[measure.column].to_numpy(float)
    limits = measure.beyond(rows)
    edges = _edges(values, measure, [limit for _, limit, _ in limits])
    parts = [values[known["synthetic"].to_numpy(bool) == synthetic] for synthetic in (False, True)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        drawn = [
            (np.clip(part, edges[0], edges[-1]), name, colour)
            for part, (name, colour) in zip(parts, KINDS, strict=True)
            if len(part)
        ]
        axes.hist(
            [part for part, _, _ in drawn],
            list(edges),
            stacked=True,
            label=[name for _, name, _ in drawn],
            color=[colour for _, _, colour in drawn],
        )
        for _, limit, count in limits:
            if edges[0] <= limit <= edges[-1]:
                axes.axvline(limit, color=RED, linewidth=1.4, linestyle="--", label=_limit(limit, count))
        if measure.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if edges[-1] < 20 * edges[0] else "")
        axes.set(xlabel=f"{measure.title}, {measure.unit}", ylabel="recordings")
        axes.margins(x=0.01)
        _grid(axes, "y")
        figure.legend(loc="outside upper left", ncols=2, fontsize=8, reverse=False)

    middle, low, high = np.quantile(values, (0.5, 0.05, 0.95))
    beyond = "; ".join(f"{count} beyond the limit of {limit:g}" for _, limit, count in limits)
    says = (
        f"{measure.title}, {measure.unit}: half of the recordings are below {middle:.3g}, nine in ten between "
        f"{low:.3g} and {high:.3g}{'; ' + beyond if beyond else ''}."
    )
    return Chart(draw, 2.25, says)


def band_chart(speakers: pd.DataFrame) -> Chart:
    """Bandwidth of each speaker's clips (10th to 90th percentile), and how well the channel alone identifies the speaker."""
    most = speakers.sort_values("recordings", ascending=False, kind="stable").iloc[:BAND_SPEAKERS]
    rows = speakers[speakers["speaker"].isin(most["speaker"])].reset_index(drop=True)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        place = np.arange(len(rows))
        colours = [_share_colour(share) for share in rows["identified"].to_numpy(float)]
        axes.hlines(place, rows["low_hz"] / 1000, rows["high_hz"] / 1000, colors=colours, linewidth=3)
        axes.scatter(rows["middle_hz"] / 1000, place, s=18, color=colours, zorder=3)
        right = rows["high_hz"].max() / 1000 * 1.03
        for y, (share, colour) in enumerate(zip(rows["identified"], colours, strict=True)):
            axes.text(right, y, _share_text(share), va="center", fontsize=7, color=colour)
        for colour, what in ((RED, "more than half"), (ORANGE, "more than a quarter"), (BLUE, "less")):
            axes.hlines([], 0, 1, colors=colour, linewidth=3, label=what)
        axes.set_yticks(place, [_short(f"{row['speaker']} ({row['language']})") for row in records(rows)])
        axes.tick_params(axis="y", labelsize=7)
        axes.set(xlabel="highest frequency in the recording, kHz", ylim=(-0.7, len(rows) - 0.3))
        axes.set_xlim(0, right * 1.1)
        _grid(axes, "x")
        figure.legend(loc="outside upper left", ncols=3, title="identified by the channel alone", fontsize=8)

    says = (
        f"Bandwidth of {len(rows)} speakers, from {rows['middle_hz'].min() / 1000:.1f} to "
        f"{rows['middle_hz'].max() / 1000:.1f} kHz (medians); the channel alone identifies "
        f"{int((rows['identified'] > 0.5).sum())} of them in more than half of their recordings. The table below has the numbers."
    )
    return Chart(draw, 1.0 + 0.155 * len(rows), says)


def matrix_chart(shared: pd.DataFrame) -> Chart:
    """Number of words that each pair of speakers shares; the diagonal is grey."""
    counts = shared.to_numpy(float, copy=True)
    np.fill_diagonal(counts, np.nan)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        image = axes.imshow(np.log1p(counts), cmap="viridis", aspect="auto", interpolation="nearest")
        axes.set_facecolor(GREY)
        place = np.arange(len(shared))
        axes.set_yticks(place, [_short(f"{name}  {i + 1}") for i, name in enumerate(shared.index)])
        axes.set_xticks(place, [str(i + 1) for i in place])
        axes.tick_params(labelsize=6.5, length=0)
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, pad=0.02)
        ticks = [
            tick for tick in (0, 1, 3, 10, 30, 100, 300, 1000, 3000) if tick <= max(1, np.nanmax(counts))
        ]
        bar.set_ticks([float(np.log1p(tick)) for tick in ticks], labels=[str(tick) for tick in ticks])
        bar.set_label("words in common")

    first, second = divmod(int(np.nanargmax(counts)), len(counts))
    says = (
        f"Words in common of {len(shared)} speakers; most, {int(np.nanmax(counts))}, for {shared.index[first]} and "
        f"{shared.index[second]}. Pairs without a word in common: "
        f"{int((counts == 0).sum()) // 2} of {len(shared) * (len(shared) - 1) // 2}."
    )
    return Chart(draw, 1.0 + 0.13 * len(shared), says)


def spectrogram(samples: np.ndarray, rate: int, says: str) -> Chart:
    """Spectrogram of `samples` (time,) in dB."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        window = min(256, max(32, 2 ** int(np.log2(max(len(samples) // 8, 32)))))
        power = _spectrum(samples, window)
        level = 10 * np.log10(np.maximum(power, power.max() * 1e-9 + 1e-20))
        axes.imshow(
            level,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=level.max() - 80,
            vmax=level.max(),
            extent=(0, len(samples) / rate, 0, rate / 2000),
            interpolation="nearest",
        )
        axes.set(xlabel="s", ylabel="kHz")

    return Chart(draw, 1.5, says)


def _spectrum(samples: np.ndarray, window: int) -> np.ndarray:
    """Power (frequency, frame) under a Hann window, of about COLUMNS frames at most."""
    padded = np.pad(samples, (0, max(0, window - len(samples))))
    step = max(window // 4, len(padded) // COLUMNS)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::step]
    power: np.ndarray = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)).T ** 2
    return power


def _edges(values: np.ndarray, measure: Measure, limits: Sequence[float]) -> np.ndarray:
    """Edges of the histogram bars, widened to include nearby limits."""
    low, high = np.quantile(values, measure.zoom)
    spread = high - low
    scale: Callable[..., np.ndarray] = np.linspace
    if measure.log:
        scale = np.geomspace
        near = [limit for limit in limits if low / 5 < limit < high * 5 and limit > 0]
    else:
        near = [limit for limit in limits if low - spread < limit < high + spread]
    low, high = min([low, *near]), max([high, *near])
    if high <= low:
        low, high = (low / 2, high * 2) if measure.log else (low - 0.5, high + 0.5)
    return scale(low, high, BINS + 1)


def _limit(limit: float, count: int) -> str:
    return f"limit {limit:g}: {count:,} beyond it"


def _hours(value: float) -> str:
    """A duration in hours, minutes or seconds."""
    if value >= 1:
        return f"{value:.1f} h"
    return f"{value * 60:.0f} min" if value * 60 >= 1 else f"{value * 3600:.0f} s"


def _short(name: str, most: int = 26) -> str:
    """The name shortened for a label, with the dollar sign escaped so that matplotlib does not read a formula."""
    name = name if len(name) <= most else name[: most - 9] + "…" + name[-8:]
    return name.replace("$", r"\$")


def _share_colour(share: float) -> str:
    return RED if share > 0.5 else ORANGE if share > 0.25 else BLUE


def _share_text(share: float) -> str:
    return "" if np.isnan(share) else f"{100 * share:.0f}%"


def _grid(axes: Axes, axis: str) -> None:
    axes.grid(axis=axis, linewidth=0.5)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
