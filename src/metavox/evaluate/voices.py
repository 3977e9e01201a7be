"""Held-out voices: what a few transcribed recordings of a voice are worth to the recogniser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metavox.corpus.store import Store
from metavox.evaluate.metrics import Errors, character_errors, word_errors
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.conformer.tokenizer import normalise_text
from metavox.recognize.decode import greedy, text_of
from metavox.recognize.transcribe import character_log_probs


@dataclass(frozen=True)
class VoiceTask:
    """Row positions of one voice: `support` to adapt on, `query` to be judged by, never the same text."""

    voice: str
    language: str
    support: np.ndarray
    query: np.ndarray


def voice_tasks(
    rows: pd.DataFrame, alphabet: str, shots: int, queries: int, max_voices: int, seed: int
) -> list[VoiceTask]:
    """One task for each voice of `rows` with enough utterances that the alphabet can mostly write.

    The voices with most speech come first. A text never is in both halves. An inferred text is no reference to
    be judged by.
    """
    known = set(alphabet)
    text = rows["text"].map(normalise_text)
    writable = text.map(lambda t: len(t) > 2 and set(t) <= known).astype(bool)
    usable = rows[writable & (rows["text_kind"] == "spoken")]
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
    return tasks[:max_voices]


@dataclass(frozen=True)
class Transcription:
    """References and guesses of one voice's queries."""

    references: list[str]
    guesses: list[str]

    @property
    def characters(self) -> Errors:
        return character_errors(self.references, self.guesses)

    @property
    def words(self) -> Errors:
        return word_errors(self.references, self.guesses)


def transcribe_rows(model: Network, store: Store, rows: np.ndarray) -> Transcription:
    """What the model hears in the rows of a store."""
    guesses = [text_of(greedy(character_log_probs(model, store[int(row)]), model)) for row in rows]
    return Transcription([str(store.rows.at[int(row), "text"]) for row in rows], guesses)


RATES = {"cer": "characters", "wer": "words"}


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


def hear(task: VoiceTask, store: Store, models: Mapping[str, Network]) -> Heard:
    """What each of `models` (by when) hears of the voice's queries."""
    found = {when: transcribe_rows(model, store, task.query) for when, model in models.items()}
    first = store.rows.loc[int(task.query[0])]
    return Heard(
        task, {name: str(first.get(name, "") or "") for name in ("language", "environment", "source")},
        str(first["text"]), {when: said.guesses[0] for when, said in found.items()},
        {(rate, when): getattr(said, of) for when, said in found.items() for rate, of in RATES.items()},
    )  # fmt: skip


def errors_by(heard: Sequence[Heard], columns: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """A row a value of each column: how many voices and recordings, and the rates over all of them with intervals."""
    rows = []
    for column in columns:
        for value in sorted({one.about[column] for one in heard}):
            own = [one for one in heard if one.about[column] == value]
            row: dict[str, object] = {
                "by": column, "value": value or "(not named)", "voices": len(own),
                "queries": sum(len(one.task.query) for one in own),
            }  # fmt: skip
            for rate, when in own[0].errors:
                total = pooled([one.errors[rate, when] for one in own])
                row |= {f"{rate}_{when}": total.rate, f"{rate}_{when}_ci95": total.interval(seed).ci95}
            rows.append(row)
    return pd.DataFrame(rows)


def pooled(each: Sequence[Errors]) -> Errors:
    """The errors of all of them together."""
    return Errors(*(np.concatenate([getattr(one, part) for one in each]) for part in ("edits", "lengths")))
