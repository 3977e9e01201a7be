"""The report in plain words: what works, what does not, and which component did not earn its place."""

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


def recordings(count: int) -> str:
    return f"{count} recording" + ("" if count == 1 else "s")


def findings(words: pd.DataFrame, voices: pd.DataFrame, headline: Row) -> list[str]:
    """Sentences on what the model is and is not good at."""
    return [*_on_words(words, headline), *_on_speech(voices, headline)]


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
        f"New words: with {recordings(headline['shots'])} of each ({headline['task']}; {headline['arm']}) "
        f"{percent(accuracy['after'])}% are right. Without a recording, from the spelling alone, "
        f"{percent(accuracy['before'])}%."
    ]
    trained = words[(words["shots"] > 0) & ~words["arm"].str.contains("untrained")]
    peaks = {str(task): float(own["accuracy"].max()) for task, own in trained.groupby("task", sort=False)}
    cross, same = (next((v for k, v in peaks.items() if p in k), None) for p in ("cross-voice", "same-voice"))
    if cross is not None and same is not None:
        advice = " Teach a word with several voices." if same - cross > 0.05 else ""
        lines.append(
            f"Asked of the voice that taught the words it reaches {100 * same:.0f}%, of another voice "
            f"{100 * cross:.0f}% (best arms).{advice}"
        )
    few, many = int(trained["shots"].min()), int(trained["shots"].max())
    if few < many:
        least, most = (100 * float(trained.loc[trained["shots"] == n, "accuracy"].max()) for n in (few, many))
        lines.append(f"The best arm has {least:.0f}% with {few} of each word, {most:.0f}% with {many}.")
    return lines


def _on_speech(voices: pd.DataFrame, headline: Row) -> list[str]:
    cer, wer = headline["cer"], headline["wer"]
    rate = cer["after"]["mean"]
    if rate < READABLE:
        judged = "good enough to read"
    elif rate < HALF:
        judged = "words can be made out, but it is no transcript to rely on"
    else:
        judged = "no usable transcript; do not use it for dictation"
    lines = [
        f"Free speech of unseen voices: after adaptation {percent(cer['after'])}% of characters and "
        f"{percent(wer['after'])}% of words are wrong (before: {percent(cer['before'])}% and "
        f"{percent(wer['before'])}%): {judged}."
    ]
    if len(voices) > 1:
        order = records(voices.sort_values("cer_after", kind="stable"))
        ends = [f"{v['voice']} ({v['language']}, {100 * v['cer_after']:.0f}%)" for v in order]
        lines.append(f"Characters wrong after adaptation: least for {ends[0]}, most for {ends[-1]}.")
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
        f"{len(under)}, not to be told apart in {len(across)} ({mean})."
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
    worth = "helped" if mean > 1 else "made little difference" if mean > -1 else "did harm"
    return f"Tuning a head on the recordings, over plain prototypes, {worth} ({mean:+.1f} points on average)."


def _change(headline: Row) -> str:
    before, after = headline["cer"]["before"], headline["cer"]["after"]
    points = f"{100 * (after['mean'] - before['mean']):+.1f} points of character errors over all voices"
    if after["mean"] + after["ci95"] < before["mean"] - before["ci95"]:
        return f"Adaptation to a voice beat no adaptation ({points})."
    if after["mean"] - after["ci95"] > before["mean"] + before["ci95"]:
        return f"Adaptation to a voice did not beat no adaptation: it did harm ({points})."
    return f"Adaptation to a voice did not beat no adaptation: the intervals overlap ({points})."


def _by_arm(words: pd.DataFrame) -> list[dict[tuple[str, str], Row]]:
    """For each task and number of shots, the rows by arm and method: `after: meta, head` -> (meta, head)."""
    tables = []
    for _, rows in words[words["shots"] > 0].groupby(["task", "shots"], sort=False):
        found = {re.fullmatch(r"after: ([^,]+), (.+)", str(row["arm"])): row for row in records(rows)}
        tables.append({(name[1], name[2]): row for name, row in found.items() if name})
    return tables
