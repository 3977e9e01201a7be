"""Sentences of the data report: what the corpus contains, its problems, and what to do about them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from metavox.quality import Verdict
from metavox.reports.data.plots import hours_by
from metavox.reports.data.speakers import MIN_CLIPS, recorded

IDENTIFIED, DOMINANT, NARROW_HZ = 0.5, 0.5, 4100.0
NAMES = 6

# For readers of the report: what each check of the gate means, and what to do about it.
OF_A_RECORDING = {
    "undecodable": "No decoder can open the file. Export or record it again.",
    "unmeasured": "The file was read but not measured. Run the prepare stage again.",
    "duration": "Too short for a word, or too long for one utterance. Split long recordings into sentences.",
    "sample rate": "Unusual for speech. Export the recording again at 16 kHz or more.",
    "bandwidth": "Only hum or silence: the microphone was off, or the file is damaged. Record it again.",
    "silence": "Almost all of the recording is silent. Trim the silence, or record it again.",
    "clipping": "Recorded too loud: the peaks are cut off. Record it again with less gain.",
    "dc offset": "The waveform is not centred on zero, a fault of the sound card. Remove it with a high-pass filter at 20 Hz.",
    "noise": "The noise is as loud as the speech, or there is no speech. Listen to it; record it closer to the microphone.",
    "text missing": "There is no transcript. Write one, or leave the recording out.",
    "speaker missing": "The speaker is unknown, so a test speaker could be trained on. Fill in the column speaker.",
    "language missing": "The language is unknown. Write its code into the manifest.",
    "control character": "The text was decoded with the wrong encoding. Save the manifest as UTF-8.",
    "markup": "The text contains HTML. Remove the tags.",
    "script": "The text is not in the script of its language: it is transliterated, or the language is wrong.",
    "speed": "More letters per second than anyone can speak: the text belongs to a longer recording.",
    "contradiction": "The same audio has two texts or two speakers. Listen, and delete the wrong row.",
    "duplicate": "The same recording occurs twice. The first one is kept.",
}
OF_THE_SET = {
    "columns present": "Run the prepare stage again: it writes every column.",
    "rows present": "Build the corpus or add recordings: metavox corpus build, metavox corpus add.",
    "paths unique": "Delete the second row of each path from the manifest.",
    "splits known": "Use train, dev or test in the column split.",
    "speaker on one split": "Put all recordings of the speaker in one split; otherwise test results are too optimistic.",
    "speaker group on one split": "Put all recordings of the person in one split; otherwise test results are too optimistic.",
    "synthetic only in train": "Move synthetic speech to train: results must be measured on people.",
    "share quarantined": "Look at the most common reason below: one cause, such as a format or a gain, often explains many.",
    "splits filled": "Put some speakers in each of train, dev and test.",
    "test speakers": "Hold out more speakers: results on few people do not generalise.",
    "language speakers": "Record more speakers of the language.",
    "language with one speaker": "Record a second speaker: results on one do not generalise, and the model cannot "
    "distinguish the language from the speaker.",
    "label share": "Record more of the other labels: always guessing the common one is right too often.",
}


@dataclass(frozen=True)
class Finding:
    """A problem, with its figures, and what to do about it."""

    what: str
    do: str


def summary(rows: pd.DataFrame, verdict: Verdict) -> str:
    """What the corpus contains, for readers who have never seen it."""
    people = rows[~rows["synthetic"].astype(bool)]
    parts = [
        f"This corpus has {hours(rows)} of speech: {len(rows):,} recordings of {_count(rows['speaker'].nunique(), 'speaker')} in "
        f"{_count(rows['language'].nunique(), 'language')}."
    ]
    if len(people) == len(rows):
        parts.append("People recorded all of it; none is synthetic.")
    else:
        parts.append(
            f"{_count(people['speaker'].nunique(), 'speaker')} recorded {hours(people)} of it in "
            f"{_count(people['language'].nunique(), 'language')}; the other "
            f"{hours(rows[rows['synthetic'].astype(bool)])} are synthetic."
        )
    known = rows["duration_s"].dropna()
    if len(known):
        parts.append(f"The median recording lasts {known.median():.1f} s{_units(rows)}.")
    sides = [
        f"{hours(rows[rows['split'] == split])} for {what}"
        for split, what in (("train", "training"), ("dev", "development"), ("test", "the final test"))
        if (rows["split"] == split).any()
    ]
    if sides:
        parts.append(f"It is split by speaker: {', '.join(sides)}.")
    return " ".join(parts)


def gate_line(verdict: Verdict) -> str:
    statistics = verdict.statistics
    if not verdict.success:
        return (
            f"The corpus has {_count(len(verdict.failed), 'fault')}. The pipeline does not train on this version until "
            "each is corrected."
        )
    released = f", {statistics['released']:,} released manually" if statistics.get("released") else ""
    share = 100 * statistics["quarantined"] / max(1, statistics["rows"])
    return (
        f"{statistics['clean']:,} of {statistics['rows']:,} recordings can be used for training; {statistics['quarantined']:,} "
        f"({share:.1f}%) were quarantined{released}; {_count(len(verdict.warnings), 'warning')}."
    )


def findings(
    rows: pd.DataFrame, verdict: Verdict, identified: "pd.Series[float]", tasks: pd.DataFrame
) -> list[Finding]:
    """Problems, the most serious first: faults, warnings, then what the figures of this report show."""
    out = [
        Finding(f"{one.name.capitalize()}: {one.explanation}.", OF_THE_SET.get(one.name, ""))
        for one in (*verdict.failed, *verdict.warnings)
    ]
    out += [
        finding
        for finding in (
            _quarantine(verdict),
            _channel(identified),
            _words(tasks, rows),
            _dominant(rows, "language"),
            _dominant(rows, "speaker"),
            _synthetic(rows),
            _unsure(rows),
            _narrow(rows),
            _unlearned(rows),
        )
        if finding
    ]
    return out


def channel_line(identified: "pd.Series[float]") -> str:
    """How well the channel alone identifies a speaker, and which speakers."""
    if identified.empty:
        return f"Channels were not compared: that needs two speakers with {MIN_CLIPS} recordings each."
    chance = 1 / len(identified)
    order = identified.sort_values(ascending=False, kind="stable")
    well_identified = [str(name) for name in order.index[order > IDENTIFIED]]
    line = (
        f"Sample rate, bandwidth, DC offset, noise floor and level alone identify the speaker of "
        f"{100 * identified.mean():.0f}% of the recordings of {len(identified)} speakers; chance is {100 * chance:.1f}%."
    )
    if not well_identified:
        return f"{line} No speaker is identified in more than half of their recordings."
    return f"{line} {len(well_identified)} are identified in more than half of their recordings: {listed(well_identified, 10)}."


def _quarantine(verdict: Verdict) -> Finding | None:
    reasons = verdict.statistics.get("reasons") or {}
    if not reasons:
        return None
    counts = ", ".join(f"{name} ({count:,})" for name, count in list(reasons.items())[:4])
    first = next(iter(reasons))
    return Finding(
        f"{verdict.statistics['quarantined']:,} recordings are quarantined: {counts}.",
        f"Most common is {first}: {OF_A_RECORDING.get(first, '')} All reasons are explained below.",
    )


def _channel(identified: "pd.Series[float]") -> Finding | None:
    well_identified = identified[identified > IDENTIFIED]
    if len(identified) < 2 or len(well_identified) < 0.25 * len(identified):
        return None
    return Finding(
        f"The channel alone identifies {len(well_identified)} of {len(identified)} speakers in more than half of their recordings.",
        "A model may learn the channel instead of the speaker. Teach words with several speakers, use the environments "
        "of the augment stage, and trust cross-speaker results only between speakers who share a channel.",
    )


def _words(tasks: pd.DataFrame, rows: pd.DataFrame) -> Finding | None:
    """Whether cross-speaker tasks can be drawn from what people recorded for learning."""
    train = tasks[tasks["split"] == "train"]
    if train.empty or rows["speaker"].nunique() < 2:
        return None
    able = train[train["largest"] >= 5]
    if len(able) * 2 >= len(train):
        return None
    names = listed([f"{r.language} ({r.largest} words)" for r in able.itertuples()]) or "none"
    return Finding(
        f"In {len(able)} of {len(train)} languages, two recorded speakers in train share five words or more: "
        f"{names}.",
        "In the others, each word comes from one speaker only. Record the same list of words with several people, or "
        "add synthetic speakers.",
    )


def _dominant(rows: pd.DataFrame, column: str) -> Finding | None:
    name = "speaker" if column == "speaker" else column
    people = recorded(rows)
    of = hours_by(people, column).sum(axis=1)
    if (
        len(of) < 3
        or not of.sum()
        or of.iloc[0] / of.sum() <= (DOMINANT if column == "language" else DOMINANT / 2)
    ):
        return None
    return Finding(
        f"{name.capitalize()} {of.index[0]} has {100 * of.iloc[0] / of.sum():.0f}% of the recorded hours.",
        f"Balance training batches by {name}, and report results by {name} as well as on average.",
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
        f" {_count(len(alone), 'language')} in train only as synthetic speech: {listed(sorted(alone))}."
        if alone
        else ""
    )
    return Finding(
        f"{100 * share:.0f}% of the training hours are synthetic.{only}",
        "Synthetic speech is cleaner and less varied than people's. Check that training on it improves results on "
        "people, and record at least one speaker of each language.",
    )


def _unsure(rows: pd.DataFrame) -> Finding | None:
    kinds = rows["text_kind"].replace("", "spoken").value_counts()
    unsure = {str(kind): int(count) for kind, count in kinds.items() if kind != "spoken"}
    if not unsure:
        return None
    counts = ", ".join(f"{count:,} {kind}" for kind, count in unsure.items())
    return Finding(
        f"{sum(unsure.values()):,} of {len(rows):,} texts are not transcripts of what was said: {counts}.",
        "Listen to some of them before you rely on error rates measured with them.",
    )


def _narrow(rows: pd.DataFrame) -> Finding | None:
    people = recorded(rows)
    narrow = people[(people["bandwidth_hz"] > 0) & (people["bandwidth_hz"] < NARROW_HZ)]
    share = float(narrow["duration_s"].sum() / max(1e-9, people["duration_s"].sum()))
    if share < 0.25:
        return None
    return Finding(
        f"{100 * share:.0f}% of the recorded hours have nothing above 4 kHz, as telephone speech.",
        "This suits telephone applications. For others, record some wide-band speech of the same speakers.",
    )


def _unlearned(rows: pd.DataFrame) -> Finding | None:
    languages = {split: set(rows.loc[rows["split"] == split, "language"]) for split in ("train", "test")}
    new = sorted(languages["test"] - languages["train"])
    if not new or not languages["train"]:
        return None
    return Finding(
        f"{_count(len(new), 'language')} only in test: {listed(new)}.",
        "Results on them are for an unseen language. Report them separately from those on training languages.",
    )


def hours(rows: pd.DataFrame) -> str:
    seconds = float(np.nansum(rows["duration_s"].to_numpy(float)))
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def listed(names: list[str], most: int = NAMES) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _units(rows: pd.DataFrame) -> str:
    units = rows["unit"].astype(str)
    shares = units[units != ""].value_counts(normalize=True)
    if shares.empty:
        return ""
    counts = ", ".join(f"{100 * share:.0f}% {unit}s" for unit, share in shares.items() if share >= 0.02)
    return f" ({counts})"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
