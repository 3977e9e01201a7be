"""Sentences of the model report: what works, what does not, and which components helped."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from metavox.intervals import Interval

READABLE, HALF = 0.10, 0.30  # character error rates
Row = dict[str, Any]


def records(rows: pd.DataFrame) -> list[Row]:
    """The rows in order, as mappings from column to value."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict(orient="records")]


def percent(value: Mapping[str, float | None]) -> str:
    """A share and its interval."""
    return str(Interval.of(value))


def rate(row: Row, measure: str) -> str:
    """The percentage in the columns MEASURE and MEASURE_ci95 of a row."""
    if pd.isna(row[measure]):
        return "not measured"
    return percent({"mean": row[measure], "ci95": row[f"{measure}_ci95"]})


def recordings(count: int) -> str:
    return f"{count} recording" + ("" if count == 1 else "s")


def findings(words: pd.DataFrame, speakers: pd.DataFrame, headline: Row) -> list[str]:
    """Sentences on what the model is and is not good at."""
    return [*_on_words(words, headline), *_on_speech(speakers, headline)]


def verdicts(words: pd.DataFrame, headline: Row) -> list[str]:
    """A sentence on each component that has a baseline in this report."""
    lines = [
        _versus(words, "meta-learning", ("meta",), "joint training on the same budget", "joint"),
        _versus(words, "training", ("joint", "meta"), "the same network without training", "untrained"),
        _methods(words),
        _change(headline),
    ]
    return [line for line in lines if line]


def _on_words(words: pd.DataFrame, headline: Row) -> list[str]:
    accuracy = headline["accuracy"]
    lines = [
        f"New words: accuracy is {percent(accuracy['after'])}% with {recordings(headline['shots'])} of each word "
        f"({headline['task']}; {headline['arm']}), and {percent(accuracy['before'])}% from the spelling alone, "
        "without recordings."
    ]
    trained = words[(words["shots"] > 0) & ~words["arm"].str.contains("untrained")]
    peaks = {str(task): float(own["accuracy"].max()) for task, own in trained.groupby("task", sort=False)}
    cross, same = (
        next((v for k, v in peaks.items() if p in k), None) for p in ("cross-speaker", "same-speaker")
    )
    if cross is not None and same is not None:
        advice = " Teach each word with several speakers." if same - cross > 0.05 else ""
        lines.append(
            f"The best arm reaches {100 * same:.0f}% on the speaker who taught the words and {100 * cross:.0f}% on "
            f"another speaker.{advice}"
        )
    few, many = int(trained["shots"].min()), int(trained["shots"].max())
    if few < many:
        least, most = (100 * float(trained.loc[trained["shots"] == n, "accuracy"].max()) for n in (few, many))
        lines.append(
            f"The best arm reaches {least:.0f}% with {recordings(few)} of each word and {most:.0f}% with {many}."
        )
    return lines


def _on_speech(speakers: pd.DataFrame, headline: Row) -> list[str]:
    cer, wer = headline["cer"], headline["wer"]
    rate = cer["after"]["mean"]
    if rate < READABLE:
        quality = "good enough to read"
    elif rate < HALF:
        quality = "words are recognisable, but the transcript is not reliable"
    else:
        quality = "the transcript is not usable; do not use it for dictation"
    lines = [
        f"Free speech of held-out speakers: after adaptation the character error rate is {percent(cer['after'])}% and "
        f"the word error rate {percent(wer['after'])}% (before: {percent(cer['before'])}% and "
        f"{percent(wer['before'])}%): {quality}."
    ]
    if len(speakers) > 1:
        order = records(speakers.sort_values("cer_after", kind="stable"))
        ends = [f"{v['speaker']} ({v['language']}, {100 * v['cer_after']:.0f}%)" for v in order]
        lines.append(
            f"The character error rate after adaptation is lowest for {ends[0]} and highest for {ends[-1]}."
        )
    return lines


def _versus(words: pd.DataFrame, what: str, arms: tuple[str, ...], against: str, baseline: str) -> str:
    """How often the arms' intervals lie over, under or across the baseline's; task, shots, method alike."""
    over: list[float] = []
    under: list[float] = []
    across: list[float] = []
    for by_arm in _by_arm(words):
        for (name, method), row in by_arm.items():
            base = by_arm.get((baseline, method))
            if name not in arms or base is None:
                continue
            gap = 100 * (row["accuracy"] - base["accuracy"])
            kind = over if row["low"] > base["high"] else under if row["high"] < base["low"] else across
            kind.append(gap)
    gaps = over + under + across
    if not gaps:
        return ""
    mean = f"{sum(gaps) / len(gaps):+.1f} points on average"
    if len(over) == len(gaps):
        return f"{what.capitalize()} beat {against} in all {len(gaps)} comparisons ({mean})."
    beat = "beat" if len(over) > len(under) + len(across) else "did not beat"
    return (
        f"{what.capitalize()} {beat} {against}: better in {len(over)} of {len(gaps)} comparisons, worse in "
        f"{len(under)}, with overlapping intervals in {len(across)} ({mean})."
    )


def _methods(words: pd.DataFrame) -> str:
    gaps = [
        100 * (by_arm[arm, "head"]["accuracy"] - by_arm[arm, "prototypes"]["accuracy"])
        for by_arm in _by_arm(words)
        for arm in ("joint", "meta")
        if {(arm, "head"), (arm, "prototypes")} <= set(by_arm)
    ]
    if not gaps:
        return ""
    mean = sum(gaps) / len(gaps)
    worth = "helped" if mean > 1 else "made little difference" if mean > -1 else "hurt"
    return f"Training a head on the recordings, instead of plain prototypes, {worth} ({mean:+.1f} points on average)."


def _change(headline: Row) -> str:
    before, after = headline["cer"]["before"], headline["cer"]["after"]
    points = f"{100 * (after['mean'] - before['mean']):+.1f} points of character error rate over all speakers"
    if after["mean"] + after["ci95"] < before["mean"] - before["ci95"]:
        return f"Adaptation to a speaker helped ({points})."
    if after["mean"] - after["ci95"] > before["mean"] + before["ci95"]:
        return f"Adaptation to a speaker did not help: errors increased ({points})."
    return f"Adaptation to a speaker did not help: the intervals overlap ({points})."


def _by_arm(words: pd.DataFrame) -> list[dict[tuple[str, str], Row]]:
    """For each task and number of shots, the rows by arm and method: `after: meta, head` -> (meta, head)."""
    tables = []
    for _, rows in words[words["shots"] > 0].groupby(["task", "shots"], sort=False):
        matches = {re.fullmatch(r"after: ([^,]+), (.+)", str(row["arm"])): row for row in records(rows)}
        tables.append({(name[1], name[2]): row for name, row in matches.items() if name})
    return tables
