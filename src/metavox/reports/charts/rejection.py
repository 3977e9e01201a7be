"""Charts of confidence calibration, and of what rejecting unknown words costs."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from metavox.enrolment.open_set import Reliability
from metavox.metrics.open_set import OperatingCurve
from metavox.reports.charts import BLUE, GREY, ORANGE, Chart

FEW = 0.005  # of all guesses
MARGIN = 0.0005  # the smallest share on a logarithmic axis


def reliability_chart(bins: Reliability) -> Chart:
    """Reliability diagram: accuracy by confidence bin, and below it the share of guesses in each bin."""
    share = bins.count / max(1, bins.count.sum())
    some, width = share > 0, 1 / len(share)
    centre = (np.arange(len(share)) + 0.5) * width

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        bars = above.bar(centre, bins.accuracy, 0.92 * width, color=BLUE)
        for bar, bin_share in zip(bars, share, strict=True):
            bar.set_alpha(1.0 if bin_share >= FEW else 0.25)  # few guesses give an unreliable estimate
        (confidence,) = above.plot(
            bins.confidence[some], bins.confidence[some], "o", color=ORANGE, markersize=3.5
        )
        above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        above.set(
            xlim=(0, 1),
            ylim=(0, 1.02),
            ylabel="accuracy",
            title=f"expected calibration error {100 * bins.expected_error:.1f}%",
        )
        figure.legend(
            [Patch(color=BLUE), confidence],
            ["accuracy", "mean confidence"],
            loc="outside lower center",
            ncols=2,
        )
        below.bar(centre, share, 0.92 * width, color=GREY)
        below.set(xlabel="confidence", ylabel="share")
        for axes in (above, below):
            axes.grid(axis="y", linewidth=0.5)
            axes.set_axisbelow(True)

    mean = [float((share * part).sum()) for part in (bins.confidence, bins.accuracy)]
    lean = "overconfident" if mean[0] > mean[1] else "underconfident"
    says = (
        f"Reliability: mean confidence {100 * mean[0]:.0f} percent, accuracy {100 * mean[1]:.0f} percent: {lean}; "
        f"expected calibration error {100 * bins.expected_error:.1f} percent."
    )
    return Chart(draw, 3.6, says)


def det_chart(curve: OperatingCurve) -> Chart:
    """Detection error trade-off (Martin et al. 1997): taught words rejected or lost, against unknown queries accepted.

    Axes are logarithmic, in percent.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        false = 100 * np.maximum(curve.false_accept, MARGIN)
        for lost, colour, name in (
            (1 - curve.accept, BLUE, "rejected"),
            (1 - curve.right, ORANGE, "rejected or recognised as another word"),
        ):
            axes.plot(false, 100 * np.maximum(lost, MARGIN), color=colour, linewidth=1.5, label=name)
        axes.plot([100 * MARGIN, 100], [100 * MARGIN, 100], color=GREY, linewidth=1, linestyle="--")
        axes.plot(100 * curve.equal_error, 100 * curve.equal_error, "o", color=BLUE, markersize=5)
        for rate in (1, 5):
            axes.axvline(rate, color=GREY, linewidth=0.8, linestyle=":")
        least = 0.1
        axes.set(xscale="log", yscale="log", xlim=(least, 100), ylim=(least, 100))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(xlabel="unknown words and sounds accepted, %", ylabel="taught words lost, %")
        axes.grid(linewidth=0.5)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=1)

    says = f"Taught words lost against unknown queries accepted; the equal error rate is {100 * curve.equal_error:.1f} percent."
    return Chart(draw, 3.5, says)
