"""Results on queries in the reports: confusions, calibration, rejection, explanations and accuracy by group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metavox.enrolment.open_set import reliability
from metavox.intervals import Interval
from metavox.metrics.open_set import Attempts, OpenSet
from metavox.metrics.slices import Slice
from metavox.metrics.trials import Trials
from metavox.reports.charts import Chart
from metavox.reports.charts.attribution import attribution_chart
from metavox.reports.charts.rejection import det_chart, reliability_chart
from metavox.reports.charts.words import confusion_chart, embedding_chart, slices_chart, steps_chart
from metavox.reports.pictures import Course, Decision, Plane, confusions
from metavox.reports.render import Table
from metavox.reports.wording import percent

MAX_SMALL = 20  # named groups that are too small to measure


@dataclass(frozen=True)
class Shown:
    """Trials, described by `what`, and the data of the charts about them."""

    what: str
    trials: Trials
    open_set: OpenSet | None
    hop_s: float
    plane: Plane | None = None
    course: Course | None = None
    decisions: tuple[Decision, ...] = ()
    sliced: Mapping[str, list[Slice]] = field(default_factory=dict)


def word_sections(shown: Shown) -> dict[str, Any]:
    """The `words` of words.html; what was not measured is None or empty."""
    known = shown.trials.where(shown.trials.known)
    confused, course, plane = confusions(shown.trials), shown.course, shown.plane
    return {
        "what": shown.what,
        "learning": course
        and steps_chart("Learning the words of an episode", course.steps, course.loss, course.accuracy),
        "confusion": {"chart": confusion_chart(confused.words, confused.rates), "count": len(confused.words)}
        if len(confused.words) > 1
        else None,
        "plane": plane
        and {
            "chart": embedding_chart(plane.points, plane.words, plane.speakers, plane.method),
            "method": plane.method,
        },
        "reliability": reliability_chart(reliability(known.confidence, known.right)),
        "open_set": shown.open_set and _rejection(shown, shown.open_set),
        "decisions": [_explanation(part, shown.hop_s) for part in shown.decisions],
        "slices": [_slices(column, parts) for column, parts in shown.sliced.items()],
    }


def _rejection(shown: Shown, open_set: OpenSet) -> dict[str, Any]:
    rows = [
        [f"{100 * rate:g}%", percent(value.as_dict()), _share(open_set.background_accepted[rate])]
        for rate, value in open_set.accuracy.items()
    ]
    caption = (
        f"{shown.what}. Share of taught words recognised correctly and accepted, at each share of the {open_set.unknown} "
        "unknown queries accepted"
    )
    heads = ["false accepts", "accuracy, %", "accepted recordings without speech, %"]
    return {
        "numbers": Table(caption, heads, rows),
        "chart": det_chart(Attempts(shown.trials).curve()),
        "equal_error": percent(open_set.equal_error.as_dict()),
    }


def _explanation(part: Decision, hop_s: float) -> Chart:
    verdict = "correct" if part.right else f"wrong: the word is {part.word}"
    says = f"{part.word}, recognised as {part.guess} with {100 * part.confidence:.0f}% confidence ({verdict})"
    return attribution_chart(part.attribution.mels.numpy(), part.attribution.cells.numpy(), hop_s, says)


def _slices(column: str, parts: list[Slice]) -> dict[str, Any]:
    large = [(part.value, part.accuracy) for part in parts if part.accuracy is not None]
    small = [part for part in parts if part.too_small]
    listed = ", ".join(
        f"{part.value} ({part.recordings} recordings, {part.episodes} episodes)" for part in small[:MAX_SMALL]
    )
    more = f" and {len(small) - MAX_SMALL} more" if len(small) > MAX_SMALL else ""
    single, several = len(parts) == 1, len(parts) > 1
    return {
        "column": column,
        "only": parts[0].value if single else None,
        "chart": slices_chart(column, [name for name, _ in large], [value for _, value in large])
        if several and large
        else None,
        "numbers": _slice_table(column, [part for part in parts if not part.too_small]),
        "small": listed + more if several else "",
    }


def _slice_table(column: str, parts: list[Slice]) -> Table:
    rates = next((list(part.right) for part in parts if part.right), [])
    heads = [
        column,
        "recordings",
        "episodes",
        "accuracy",
        *(f"accuracy at {100 * rate:g}% false accepts" for rate in rates),
        *(f"own false accepts at {100 * rate:g}%" for rate in rates),
    ]
    rows = [
        [
            part.value,
            str(part.recordings),
            str(part.episodes),
            str(part.accuracy),
            *(str(part.right[rate]) for rate in rates),
            *(str(part.false_accept.get(rate, "not measured")) for rate in rates),
        ]
        for part in parts
    ]
    return Table("Percent with 95% bootstrap intervals; one threshold for all", heads, rows)


def _share(value: Interval) -> str:
    return "not measured" if np.isnan(value.mean) else str(value)
