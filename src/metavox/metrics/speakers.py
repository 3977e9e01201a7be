"""Error rates on held-out speakers, before and after adaptation to a few of their transcribed recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metavox.metrics.rates import Errors, character_errors, word_errors
from metavox.recognisers.recogniser import Audio, Recogniser
from metavox.text import normalise_text


@dataclass(frozen=True)
class SpeakerTask:
    """Row indices of one speaker: `support` to adapt on and `query` to measure on, which share no text."""

    speaker: str
    language: str
    support: np.ndarray
    query: np.ndarray


def speaker_tasks(
    rows: pd.DataFrame, recogniser: Recogniser, shots: int, queries: int, max_speakers: int, seed: int
) -> list[SpeakerTask]:
    """One task per speaker with at least `shots` + 10 distinct texts that the recogniser can write, in its languages.

    The speakers with most speech come first. No text is in both halves, and only texts of the kind `spoken` count,
    because others are not reliable references.
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
        order = np.array([row_of[t] for t in texts])
        language = str(own["language"].iloc[0])
        tasks.append(SpeakerTask(str(speaker), language, order[:shots], order[shots : shots + queries]))
    return tasks[:max_speakers]


RATES = {"cer": character_errors, "wer": word_errors}


@dataclass(frozen=True)
class SpeakerResult:
    """The result for one speaker: `errors` by rate and time (before, after).

    `about` has the speaker's language, environment and source. `reference` is the text of the first query, and
    `transcripts` are its transcripts by time.
    """

    task: SpeakerTask
    about: Mapping[str, str]
    reference: str
    transcripts: Mapping[str, str]
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
        transcripts = {f"transcript_{when}": text for when, text in self.transcripts.items()}
        return row | {"reference": self.reference} | transcripts


def evaluate_speaker(
    task: SpeakerTask, rows: pd.DataFrame, audio: Sequence[Audio], recognisers: Mapping[str, Recogniser]
) -> SpeakerResult:
    """Transcribe the speaker's queries with each of `recognisers` (by time); `audio` has them in the task's order."""
    references = [str(rows.at[int(row), "text"]) for row in task.query]
    languages = [task.language] * len(references)
    transcripts = {
        when: [transcript.text for transcript in recogniser.transcribe(audio)]
        for when, recogniser in recognisers.items()
    }
    first = rows.loc[int(task.query[0])]
    return SpeakerResult(
        task,
        {name: str(first.get(name, "") or "") for name in ("language", "environment", "source")},
        references[0],
        {when: texts[0] for when, texts in transcripts.items()},
        {
            (rate, when): count_errors(references, texts, languages)
            for when, texts in transcripts.items()
            for rate, count_errors in RATES.items()
        },
    )


def errors_by(results: Sequence[SpeakerResult], columns: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """One row per value of each column: numbers of speakers and recordings, and the pooled rates with intervals."""
    rows = []
    for column in columns:
        for value in sorted({result.about[column] for result in results}):
            own = [result for result in results if result.about[column] == value]
            row: dict[str, object] = {
                "by": column,
                "value": value or "(not named)",
                "speakers": len(own),
                "queries": sum(len(result.task.query) for result in own),
            }
            for rate, when in own[0].errors:
                total = pooled([result.errors[rate, when] for result in own])
                row |= {f"{rate}_{when}": total.rate, f"{rate}_{when}_ci95": total.interval(seed).ci95}
            rows.append(row)
    return pd.DataFrame(rows)


def pooled(parts: Sequence[Errors]) -> Errors:
    """The errors of several sets of utterances together."""
    return Errors(
        np.concatenate([part.edits for part in parts]), np.concatenate([part.lengths for part in parts])
    )
