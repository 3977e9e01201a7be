"""Sections on judged words, of the pipeline's report and of a stranger's: what is confused, how sure it is, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import numpy as np

from metavox.evaluate.charts.attribution import attribution_chart
from metavox.evaluate.charts.rejection import det_chart, reliability_chart
from metavox.evaluate.charts.words import confusion_chart, embedding_chart, slices_chart, steps_chart
from metavox.evaluate.judged import Judged
from metavox.evaluate.openset import Attempts, OpenSet
from metavox.evaluate.page import details, section, table
from metavox.evaluate.pictures import Course, Decision, Plane, confusions
from metavox.evaluate.slices import Slice
from metavox.evaluate.wording import percent
from metavox.intervals import Interval
from metavox.learn.openset import reliability


@dataclass(frozen=True)
class Shown:
    """Judged queries (`what` they are, in words) and what was worked out about them."""

    what: str
    judged: Judged
    open_set: OpenSet | None
    hop_s: float
    plane: Plane | None = None
    course: Course | None = None
    decisions: tuple[Decision, ...] = ()
    sliced: Mapping[str, list[Slice]] = field(default_factory=dict)


def word_sections(shown: Shown) -> list[str]:
    """The sections in order, each with a picture and what it says."""
    parts = [
        _learning(shown.course),
        _confused(shown),
        _plane(shown.plane),
        _sure(shown),
        _strangers(shown),
        _why(shown),
        *(_slices(column, found) for column, found in shown.sliced.items()),
    ]
    return [part for part in parts if part]


def _learning(course: Course | None) -> str:
    if course is None:
        return ""
    chart = steps_chart("Learning the words of an episode", course.steps, course.loss, course.accuracy)
    note = "Means over episodes with 95% intervals; step 0 is the mean of each word's recordings."
    return section("How the words are learned", _figure(chart.html(), note))


def _confused(shown: Shown) -> str:
    found = confusions(shown.judged)
    if len(found.words) < 2:
        return ""
    note = (
        f"{shown.what}. Of the queries that are the row's word, in episodes that have both words, the share that was taken "
        f"for the column's; the {len(found.words)} words that are confused most."
    )
    return section("What is confused", _figure(confusion_chart(found.words, found.rates).html(), note))


def _plane(plane: Plane | None) -> str:
    if plane is None:
        return ""
    chart = embedding_chart(plane.points, plane.words, plane.voices, plane.method)
    note = f"A dot a recording, as the network hears it: colour by word, mark by voice ({plane.method}; near means alike)."
    return section("The words as the network hears them", _figure(chart.html(), note))


def _sure(shown: Shown) -> str:
    known = shown.judged.where(shown.judged.known)
    chart = reliability_chart(reliability(known.confidence, known.right))
    note = f"{shown.what}. Confidence is the probability among an episode's words; on the dashed line it is what it says."
    return section("Are its confidences honest?", _figure(chart.html(), note))


def _strangers(shown: Shown) -> str:
    if shown.open_set is None:
        return section(
            "Other words and sounds", "<p>Not measured: no unknown words or sounds were asked about.</p>"
        )
    rows = [
        [
            f"{100 * rate:g}% of them",
            percent(value.as_dict()),
            _share(shown.open_set.background_accepted[rate]),
        ]
        for rate, value in shown.open_set.accuracy.items()
    ]
    caption = f"{shown.what}. Taught words that are right and accepted, where so many other queries are accepted ({shown.open_set.unknown} asked)"
    numbers = table(
        caption, ["others accepted", "right and accepted, %", "of recordings without speech, %"], rows
    )
    chart = det_chart(Attempts(shown.judged).operating())
    equal = percent(shown.open_set.equal_error.as_dict())
    note = f"The dot: as large a share of the taught words turned away as of the others accepted, {equal}%."
    return section("Other words and sounds", numbers + _figure(chart.html(), note))


def _why(shown: Shown) -> str:
    figures = []
    for one in shown.decisions:
        verdict = "right" if one.right else f"wrong: it is {one.word}"
        says = f"{one.word}, taken for {one.guess} with {100 * one.confidence:.0f}% ({verdict})"
        chart = attribution_chart(
            one.attribution.mels.numpy(), one.attribution.cells.numpy(), shown.hop_s, says
        )
        figures.append(_figure(chart.html(), says))
    if not figures:
        return ""
    note = (
        "<p class=soft>What each cell of the spectrogram added to the guess's score, against a steady sound of the same "
        "spectrum (integrated gradients), drawn a little smoothed. The first right and the first wrong decision, not picked.</p>"
    )
    return section("Why it decided so", note + "".join(figures))


def _slices(column: str, found: list[Slice]) -> str:
    if len(found) == 1:
        return section(f"By {column}", f"<p>All queries have one {column}: {escape(found[0].value)}.</p>")
    large = [(one.value, one.accuracy) for one in found if one.accuracy is not None]
    small = [one for one in found if one.too_small]
    out = ""
    if large:
        chart = slices_chart(column, [name for name, _ in large], [value for _, value in large])
        out += _figure(chart.html(), f"Accuracy by {column} of who is asked about, with 95% intervals.")
        out += details(_slice_table(column, [one for one in found if not one.too_small]))
    if small:
        listed = ", ".join(
            f"{one.value} ({one.recordings} recordings, {one.episodes} episodes)" for one in small[:20]
        )
        more = f" and {len(small) - 20} more" if len(small) > 20 else ""
        out += f"<p class=soft>Too few to say: {escape(listed + more)}.</p>"
    return section(f"By {column}", out)


def _slice_table(column: str, found: list[Slice]) -> str:
    rates = next((list(one.right) for one in found if one.right), [])
    heads = [
        column,
        "recordings",
        "episodes",
        "accuracy",
        *(f"at {100 * r:g}% false accepts" for r in rates),
        *(f"own false accepts at {100 * r:g}%" for r in rates),
    ]
    rows = [
        [
            one.value,
            str(one.recordings),
            str(one.episodes),
            str(one.accuracy),
            *(str(one.right[r]) for r in rates),
            *(str(one.false_accept.get(r, "none asked")) for r in rates),
        ]
        for one in found
    ]
    return table("Percent with 95% bootstrap intervals; one threshold for all", heads, rows)


def _share(value: Interval) -> str:
    return "none asked" if np.isnan(value.mean) else str(value)


def _figure(picture: str, note: str) -> str:
    return f"<figure>{picture}<figcaption>{escape(note)}</figcaption></figure>"
