"""Held-out voices: what a few transcribed recordings of a voice are worth to the recogniser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metavox.metrics.rates import Errors, character_errors, word_errors
from metavox.recognisers.recogniser import Audio, Recogniser
from metavox.text import normalise_text


@dataclass(frozen=True)
class VoiceTask:
    """Row positions of one voice: `support` to adapt on, `query` to be judged by, never the same text."""

    voice: str
    language: str
    support: np.ndarray
    query: np.ndarray


def voice_tasks(
    rows: pd.DataFrame, recogniser: Recogniser, shots: int, queries: int, max_speakers: int, seed: int
) -> list[VoiceTask]:
    """One task for each voice of `rows` with enough utterances that the recogniser can write, in a language of its.

    The voices with most speech come first. A text never is in both halves. An inferred text is no reference to
    be judged by.
    """
    text = rows["text"].map(normalise_text)
    writable = text.map(lambda t: len(t) > 2 and normalise_text(recogniser.writable(t)) == t).astype(bool)
    known = rows["language"].isin(recogniser.spec.languages) if recogniser.spec.languages else True
    usable = rows[writable & known & (rows["text_kind"] == "spoken")]
    tasks = []
    by_speech = usable.groupby("voice")["duration_s"].sum().sort_values(ascending=False, kind="stable")
    for voice in by_speech.index:
        own = usable[usable["voice"] == voice]
        texts = np.random.default_rng(seed).permutation(sorted(set(text[own.index])))
        if len(texts) < shots + 10:
            continue
        row_of = dict(zip(text[own.index], own.index, strict=True))
        chosen = np.array([row_of[t] for t in texts])
        tasks.append(
            VoiceTask(
                str(voice), str(own["language"].iloc[0]), chosen[:shots], chosen[shots : shots + queries]
            )
        )
    return tasks[:max_speakers]


RATES = {"cer": character_errors, "wer": word_errors}


@dataclass(frozen=True)
class Heard:
    """One voice: what was said, what was heard by when (before, after), and the `errors` by rate and when.

    `about` is the voice's language, environment and source.
    """

    task: VoiceTask
    about: Mapping[str, str]
    said: str
    heard: Mapping[str, str]
    errors: Mapping[tuple[str, str], Errors]

    def as_row(self, seed: int) -> dict[str, object]:
        row: dict[str, object] = {
            "voice": self.task.voice,
            "language": self.task.language,
            "queries": len(self.task.query),
        }
        for (rate, when), errors in self.errors.items():
            row[f"{rate}_{when}"] = errors.rate
            row[f"{rate}_{when}_ci95"] = errors.interval(seed).ci95
        return row | {"said": self.said} | {f"heard_{when}": text for when, text in self.heard.items()}


def hear(
    task: VoiceTask, rows: pd.DataFrame, audio: Sequence[Audio], recognisers: Mapping[str, Recogniser]
) -> Heard:
    """What each of `recognisers` (by when) hears of the voice's queries, which are `audio` in the task's order."""
    said = [str(rows.at[int(row), "text"]) for row in task.query]
    spoken = [task.language] * len(said)
    found = {when: [one.text for one in each.transcribe(audio)] for when, each in recognisers.items()}
    first = rows.loc[int(task.query[0])]
    return Heard(
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


def errors_by(heard: Sequence[Heard], columns: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """A row a value of each column: how many voices and recordings, and the rates over all of them with intervals."""
    rows = []
    for column in columns:
        for value in sorted({one.about[column] for one in heard}):
            own = [one for one in heard if one.about[column] == value]
            row: dict[str, object] = {
                "by": column,
                "value": value or "(not named)",
                "voices": len(own),
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
