"""The data report in plain words: what the corpus is, what is wrong with it, what to do about it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from metavox.quality import Verdict
from metavox.reports.data.plots import hours_by
from metavox.reports.data.voices import LEAST, recorded

TOLD, MUCH, NARROW_HZ = 0.5, 0.5, 4100.0
NAMES = 6

# What a check of the gate means for a recording, and what to do: for people who did not write it.
OF_A_RECORDING = {
    "undecodable": "No decoder opens the file. Export or record it again.",
    "unmeasured": "It was read but not measured. Run the prepare stage again.",
    "duration": "Too short to hold a word, or too long for one utterance. Cut long ones into sentences.",
    "sample rate": "Not a rate that speech is recorded at. Export it again at 16 kHz or more.",
    "bandwidth": "Nothing but hum or silence: the microphone was off, or the file is broken. Record it again.",
    "silence": "Almost all of it is silent. Cut the silence away, or record it again.",
    "clipping": "Recorded too loud, the tops of the wave are cut off. Record it again with less gain.",
    "dc offset": "The wave is not centred: a fault of the sound card. Filter it out (high-pass at 20 Hz).",
    "noise": "Speech does not stand out of the noise, or it is no speech. Listen to it; record it closer.",
    "text missing": "Nobody wrote down what is said. Write the text, or leave the recording out.",
    "voice missing": "Nobody said who speaks. Without it a test voice could be learned from.",
    "language missing": "Nobody said which language it is. Write its code into the manifest.",
    "control character": "The text was decoded wrongly somewhere. Save the manifest as UTF-8.",
    "markup": "The text holds HTML. Take the tags out.",
    "script": "The text is not in the letters of its language: transliterated, or the wrong language.",
    "speed": "More letters a second than anyone speaks: the text is of another, longer recording.",
    "contradiction": "The same sound has two texts or two voices. Listen, and delete the wrong row.",
    "duplicate": "The same recording twice. Nothing is lost; the first one is kept.",
}
OF_THE_SET = {
    "columns present": "Run the prepare stage again; it writes every column.",
    "rows present": "Build the corpus, or add recordings: metavox corpus build, metavox corpus add.",
    "paths unique": "Delete the second row of each path from the manifest.",
    "splits known": "Use train, dev or test in the column split.",
    "voice on one split": "Put all recordings of the voice on one split, else test figures are too good.",
    "person on one split": "Put all voices of the person on one split, else test figures are too good.",
    "synthetic only in train": "Move synthetic speech to train: figures must be of people.",
    "share quarantined": "Look at the commonest reason below: one cause (a format, a gain) is behind many.",
    "splits filled": "Put some voices on each of train, dev and test.",
    "test voices": "Hold out more voices: few people say little about others.",
    "language voices": "Record more people who speak the language.",
    "language with one voice": "Record a second person of it: one voice says nothing about another, and the language "
    "and the voice cannot be told apart.",
    "label share": "Record more of the other labels: guessing the common one is right too often.",
}


@dataclass(frozen=True)
class Finding:
    """What is wrong, with its figures, and what to do."""

    what: str
    do: str


def summary(rows: pd.DataFrame, verdict: Verdict) -> str:
    """What the corpus is, for someone who has never seen it."""
    people = rows[~rows["synthetic"].astype(bool)]
    parts = [
        f"This corpus is {hours(rows)} of speech: {len(rows):,} recordings of {_count(rows['voice'].nunique(), 'voice')} in "
        f"{_count(rows['language'].nunique(), 'language')}."
    ]
    if len(people) == len(rows):
        parts.append("All of it was spoken by people; none is synthetic.")
    else:
        parts.append(
            f"{hours(people)} was spoken by {_count(people['voice'].nunique(), 'voice')} in "
            f"{_count(people['language'].nunique(), 'language')}, the other "
            f"{hours(rows[rows['synthetic'].astype(bool)])} comes from a speech synthesiser."
        )
    known = rows["duration_s"].dropna()
    if len(known):
        parts.append(f"Half of the recordings last under {known.median():.1f} s{_units(rows)}.")
    sides = [
        f"{hours(rows[rows['split'] == split])} for {what}"
        for split, what in (("train", "learning"), ("dev", "choosing"), ("test", "the final measurement"))
        if (rows["split"] == split).any()
    ]
    if sides:
        parts.append(f"It is divided by voice: {', '.join(sides)}.")
    return " ".join(parts)


def gate_line(verdict: Verdict) -> str:
    found = verdict.statistics
    if not verdict.success:
        return (
            f"{_count(len(verdict.failed), 'fault')} of the whole: nothing is learned from this version until "
            "they are mended."
        )
    freed = f", {found['released']:,} let through by a person" if found.get("released") else ""
    share = 100 * found["quarantined"] / max(1, found["rows"])
    return (
        f"{found['clean']:,} of {found['rows']:,} recordings may be learned from; {found['quarantined']:,} "
        f"({share:.1f}%) were set aside{freed}, and {_count(len(verdict.warnings), 'warning')} given."
    )


def findings(
    rows: pd.DataFrame, verdict: Verdict, told: "pd.Series[float]", tasks: pd.DataFrame
) -> list[Finding]:
    """What is wrong, the gravest first: faults, warnings, then what the figures of this report show."""
    out = [
        Finding(f"{one.name.capitalize()}: {one.explanation}.", OF_THE_SET.get(one.name, ""))
        for one in (*verdict.failed, *verdict.warnings)
    ]
    out += [
        found
        for found in (
            _quarantine(verdict),
            _channel(told),
            _words(tasks, rows),
            _dominant(rows, "language"),
            _dominant(rows, "voice"),
            _synthetic(rows),
            _unsure(rows),
            _narrow(rows),
            _unlearned(rows),
        )
        if found
    ]
    return out


def channel_line(told: "pd.Series[float]") -> str:
    """How far the channel alone gives a voice away, and which voices."""
    if told.empty:
        return f"There are not two voices with {LEAST} recordings each, so nothing can be said about their channels."
    chance = 1 / len(told)
    order = told.sort_values(ascending=False, kind="stable")
    sure = [str(name) for name in order.index[order > TOLD]]
    line = (
        f"Guessing who speaks from sample rate, bandwidth, constant offset, noise floor and level alone, without "
        f"hearing a word, is right for {100 * told.mean():.0f}% of the clips of {len(told)} voices; by chance it "
        f"would be {100 * chance:.1f}%."
    )
    if not sure:
        return f"{line} No voice is told so in over half of its clips."
    return f"{line} Told in over half of their clips are {len(sure)}: {some(sure, 10)}."


def _quarantine(verdict: Verdict) -> Finding | None:
    reasons = verdict.statistics.get("reasons") or {}
    if not reasons:
        return None
    told = ", ".join(f"{name} ({count:,})" for name, count in list(reasons.items())[:4])
    first = next(iter(reasons))
    return Finding(
        f"{verdict.statistics['quarantined']:,} recordings are set aside: {told}.",
        f"Mostly {first}: {OF_A_RECORDING.get(first, '')} Each one, and what to do, is below.",
    )


def _channel(told: "pd.Series[float]") -> Finding | None:
    sure = told[told > TOLD]
    if len(told) < 2 or len(sure) < 0.25 * len(told):
        return None
    return Finding(
        f"{len(sure)} of {len(told)} voices can be told by their channel alone in over half of their clips.",
        "A model may learn the recorder instead of the person. Teach words with several voices, use the environments "
        "of the augment stage, and believe cross-voice figures only between voices of one channel.",
    )


def _words(tasks: pd.DataFrame, rows: pd.DataFrame) -> Finding | None:
    """Whether cross-voice tasks can be drawn from what people recorded for learning."""
    train = tasks[tasks["split"] == "train"]
    if train.empty or rows["voice"].nunique() < 2:
        return None
    able = train[train["largest"] >= 5]
    if len(able) * 2 >= len(train):
        return None
    names = some([f"{r.language} ({r.largest} words)" for r in able.itertuples()]) or "none"
    return Finding(
        f"Among people in train, two voices share five words or more in {len(able)} of {len(train)} languages: "
        f"{names}.",
        "In the others a word is only ever heard from one voice. Record the same list of words with several people, "
        "or let synthetic voices stand in.",
    )


def _dominant(rows: pd.DataFrame, column: str) -> Finding | None:
    people = recorded(rows)
    of = hours_by(people, column).sum(axis=1)
    if len(of) < 3 or not of.sum() or of.iloc[0] / of.sum() <= (MUCH if column == "language" else MUCH / 2):
        return None
    return Finding(
        f"{column.capitalize()} {of.index[0]} holds {100 * of.iloc[0] / of.sum():.0f}% of the recorded hours.",
        f"Draw training batches evenly by {column}, and read every figure by {column}, not only the average.",
    )


def _synthetic(rows: pd.DataFrame) -> Finding | None:
    train = rows[rows["split"] == "train"]
    if train.empty or not train["synthetic"].any():
        return None
    share = float(
        train.loc[train["synthetic"].astype(bool), "duration_s"].sum() / max(1e-9, train["duration_s"].sum())
    )
    alone = set(train["language"]) - set(train.loc[~train["synthetic"].astype(bool), "language"])
    if share < 0.2 and not alone:
        return None
    only = (
        f" {_count(len(alone), 'language')} in train only synthetic: {some(sorted(alone))}." if alone else ""
    )
    return Finding(
        f"{100 * share:.0f}% of the hours to learn from are synthetic.{only}",
        "Synthetic voices are cleaner and more alike than people. Check that learning from them helps people, and "
        "record at least one person of each language.",
    )


def _unsure(rows: pd.DataFrame) -> Finding | None:
    kinds = rows["text_kind"].replace("", "spoken").value_counts()
    unsure = {str(kind): int(count) for kind, count in kinds.items() if kind != "spoken"}
    if not unsure:
        return None
    told = ", ".join(f"{count:,} {kind}" for kind, count in unsure.items())
    return Finding(
        f"{sum(unsure.values()):,} of {len(rows):,} texts are no transcript of what was said: {told}.",
        "Listen to some of them before you trust an error rate measured on them.",
    )


def _narrow(rows: pd.DataFrame) -> Finding | None:
    people = recorded(rows)
    narrow = people[(people["bandwidth_hz"] > 0) & (people["bandwidth_hz"] < NARROW_HZ)]
    share = float(narrow["duration_s"].sum() / max(1e-9, people["duration_s"].sum()))
    if share < 0.25:
        return None
    return Finding(
        f"{100 * share:.0f}% of the recorded hours carry nothing above 4 kHz, as a telephone does.",
        "Right where telephones are listened to. Otherwise record some wide-band speech of the same voices.",
    )


def _unlearned(rows: pd.DataFrame) -> Finding | None:
    languages = {split: set(rows.loc[rows["split"] == split, "language"]) for split in ("train", "test")}
    new = sorted(languages["test"] - languages["train"])
    if not new or not languages["train"]:
        return None
    return Finding(
        f"{_count(len(new), 'language')} only in test: {some(new)}.",
        "Their figures are of a language never heard before. Keep them apart from those of known languages.",
    )


def hours(rows: pd.DataFrame) -> str:
    seconds = float(np.nansum(rows["duration_s"].to_numpy(float)))
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def some(names: list[str], most: int = NAMES) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _units(rows: pd.DataFrame) -> str:
    units = rows["unit"].astype(str)
    shares = units[units != ""].value_counts(normalize=True)
    if shares.empty:
        return ""
    told = ", ".join(f"{100 * share:.0f}% {unit}s" for unit, share in shares.items() if share >= 0.02)
    return f" ({told})"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
