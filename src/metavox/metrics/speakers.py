"""Held-out speakers: what a few transcribed recordings of a speaker are worth to the recogniser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metavox.metrics.rates import Errors, character_errors, word_errors
from metavox.recognisers.recogniser import Audio, Recogniser
from metavox.text import normalise_text


@dataclass(frozen=True)
class SpeakerTask:
    """Row positions of one speaker: `support` to adapt on, `query` to be trials by, never the same text."""

    speaker: str
    language: str
    support: np.ndarray
    query: np.ndarray


def speaker_tasks(
    rows: pd.DataFrame, recogniser: Recogniser, shots: int, queries: int, max_speakers: int, seed: int
) -> list[SpeakerTask]:
    """One task for each speaker of `rows` with enough utterances that the recogniser can write, in a language of its.

    The speakers with most speech come first. A text never is in both halves. An inferred text is no reference to
    be trials by.
    """
    text = rows["text"].map(normalise_text)
    writable = text.map(lambda t: len(t) > 2 and normalise_text(recogniser.writable(t)) == t).astype(bool)
    known = rows["language"].isin(recogniser.spec.languages) if recogniser.spec.languages else True
    usable = rows[writable & known & (rows["text_kind"] == "spoken")]
    tasks = []
    by_speech = usable.groupby("speaker")["duration_s"].sum().sort_values(ascending=False, kind="stable")
    for speaker in by_speech.index:
        own = usable[usable["speaker"] == speaker]
        texts = np.random.default_rng(seed).permutation(sorted(set(text[own.index])))
        if len(texts) < shots + 10:
            continue
        row_of = dict(zip(text[own.index], own.index, strict=True))
        chosen = np.array([row_of[t] for t in texts])
        tasks.append(
            SpeakerTask(
                str(speaker), str(own["language"].iloc[0]), chosen[:shots], chosen[shots : shots + queries]
            )
        )
    return tasks[:max_speakers]


RATES = {"cer": character_errors, "wer": word_errors}


@dataclass(frozen=True)
class SpeakerResult:
    """One speaker: what was said, what was heard by when (before, after), and the `errors` by rate and when.

    `about` is the speaker's language, environment and source.
    """

    task: SpeakerTask
    about: Mapping[str, str]
    said: str
    heard: Mapping[str, str]
    errors: Mapping[tuple[str, str], Errors]

    def as_row(self, seed: int) -> dict[str, object]:
        row: dict[str, object] = {
            "speaker": self.task.speaker,
            "language": self.task.language,
            "queries": len(self.task.query),
        }
        for (rate, when), errors in self.errors.items():
            row[f"{rate}_{when}"] = errors.rate
            row[f"{rate}_{when}_ci95"] = errors.interval(seed).ci95
        return row | {"said": self.said} | {f"heard_{when}": text for when, text in self.heard.items()}


def evaluate_speaker(
    task: SpeakerTask, rows: pd.DataFrame, audio: Sequence[Audio], recognisers: Mapping[str, Recogniser]
) -> SpeakerResult:
    """What each of `recognisers` (by when) hears of the speaker's queries, which are `audio` in the task's order."""
    said = [str(rows.at[int(row), "text"]) for row in task.query]
    spoken = [task.language] * len(said)
    found = {when: [one.text for one in each.transcribe(audio)] for when, each in recognisers.items()}
    first = rows.loc[int(task.query[0])]
    return SpeakerResult(
        task,
        {name: str(first.get(name, "") or "") for name in ("language", "environment", "source")},
        said[0],
        {when: guesses[0] for when, guesses in found.items()},
        {
            (rate, when): count(said, guesses, spoken)
            for when, guesses in found.items()
            for rate, count in RATES.items()
        },
    )


def errors_by(heard: Sequence[SpeakerResult], columns: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """A row a value of each column: how many speakers and recordings, and the rates over all of them with intervals."""
    rows = []
    for column in columns:
        for value in sorted({one.about[column] for one in heard}):
            own = [one for one in heard if one.about[column] == value]
            row: dict[str, object] = {
                "by": column,
                "value": value or "(not named)",
                "speakers": len(own),
                "queries": sum(len(one.task.query) for one in own),
            }
            for rate, when in own[0].errors:
                total = pooled([one.errors[rate, when] for one in own])
                row |= {f"{rate}_{when}": total.rate, f"{rate}_{when}_ci95": total.interval(seed).ci95}
            rows.append(row)
    return pd.DataFrame(rows)


def pooled(each: Sequence[Errors]) -> Errors:
    """The errors of all of them together."""
    return Errors(*(np.concatenate([getattr(one, part) for one in each]) for part in ("edits", "lengths")))
