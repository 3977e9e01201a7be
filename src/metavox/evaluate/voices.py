"""Held-out voices: what a few transcribed recordings of a voice are worth to the recogniser."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from metavox.corpus.store import Store
from metavox.evaluate.metrics import Errors, character_errors, word_errors
from metavox.model.recogniser import Recogniser
from metavox.model.tokenizer import normalise_text
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
    usable = rows[text.map(lambda t: len(t) > 2 and set(t) <= known) & (rows["text_kind"] == "spoken")]
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


def transcribe_rows(model: Recogniser, store: Store, rows: np.ndarray) -> Transcription:
    """What the model hears in the rows of a store."""
    guesses = [text_of(greedy(character_log_probs(model, store[int(row)]), model)) for row in rows]
    return Transcription([str(store.rows.at[int(row), "text"]) for row in rows], guesses)
