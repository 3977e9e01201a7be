"""A loaded model as the commands use it: with or without deltas, and scored before and after."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from metavox.audio.features import extract, make_transform
from metavox.evaluate.metrics import Interval, character_errors, classification, mean_interval, word_errors
from metavox.learn.testtime import TestTime, TestTimeConfig
from metavox.recognisers.conformer.artifact import digest, find_model, load_model
from metavox.recognisers.conformer.delta import Delta, apply_deltas, load_delta, vocabulary
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.conformer.tokenizer import normalise_text
from metavox.recognize.formats import as_json, as_srt, as_verbose_json, as_vtt
from metavox.recognize.transcribe import LONGEST_WORD_S, WINDOW_S, Transcript, recognise_word
from metavox.recognize.transcribe import transcribe as transcribe_samples

RATES = ("accuracy", "precision", "recall", "f1")


@dataclass(frozen=True)
class Listener:
    """`model` is the base, `adapted` the base with the differences of deltas on it.

    What hears letters and what hears words may each move with what they hear.
    """

    model: Network
    digest: str
    adapted: Network
    enrolled: Delta | None = None
    letters: TestTime | None = None
    word_finder: TestTime | None = None

    @property
    def rate(self) -> int:
        return self.model.config.features.sample_rate_hz

    @property
    def words(self) -> tuple[str, ...]:
        return self.enrolled.words if self.enrolled else ()

    def with_deltas(self, folders: Sequence[Path]) -> "Listener":
        """Differences add up; one delta at most may hold words. Raises UserError."""
        deltas = [load_delta(folder) for folder in folders]
        adapted = copy.deepcopy(self.model)
        apply_deltas(adapted, self.digest, deltas)
        return replace(self, adapted=adapted, enrolled=vocabulary(deltas))

    def moving(self, mode: Literal["off", "episodic", "continual"]) -> "Listener":
        """As it is, or adapting to each recording as it is heard."""
        if mode == "off":
            return self
        how = TestTimeConfig(mode)
        return replace(self, letters=TestTime(self.adapted, how), word_finder=TestTime(self.model, how))

    def hear(self, samples: np.ndarray) -> Transcript:
        """Samples (time,). Enrolled words are looked for with the base model, which they were enrolled on."""
        finder, writer = self.model, self.adapted
        short = len(samples) <= LONGEST_WORD_S * self.rate
        mels = self._mels(samples) if self.letters else None
        if self.enrolled and short:
            if self.word_finder and mels is not None:
                finder = self.word_finder.words(mels, self.enrolled)
            if recognise_word(finder, samples, self.enrolled).word:
                return transcribe_samples(finder, samples, self.enrolled)
        if self.letters and mels is not None:
            writer = self.letters.characters(mels)
        return transcribe_samples(writer, samples)

    def _mels(self, samples: np.ndarray) -> torch.Tensor:
        """Features of what test-time adaptation listens to: the beginning, as much as is recognised at a time."""
        beginning = samples[: int(WINDOW_S * self.rate)]
        return extract(beginning, make_transform(self.model.config.features)).clone()


def load(model: str | None) -> Listener:
    """The model that is named, or the newest. Raises UserError."""
    folder = find_model(model)
    base = load_model(folder).requires_grad_(False)
    return Listener(base, digest(folder), base)


@dataclass(frozen=True)
class Figures:
    """`rates[name][when]`; `enrolled` recordings went into accuracy and its kin."""

    rates: dict[str, dict[str, Interval]]
    enrolled: int = 0

    def as_dict(self) -> dict[str, object]:
        rates = {n: {when: value.as_dict() for when, value in by.items()} for n, by in self.rates.items()}
        return {**rates, "enrolled_recordings": self.enrolled}


def before_and_after(texts: list[str], heard: dict[str, list[str]], vocabulary: Sequence[str]) -> Figures:
    """What was heard, by when, against what was said.

    A recording of an enrolled word is right when what was heard is that word and nothing else.
    """
    rates = {
        name: {when: errors(texts, guesses).interval() for when, guesses in heard.items()}
        for name, errors in (("wer", word_errors), ("cer", character_errors))
    }
    number = {normalise_text(word): i for i, word in enumerate(vocabulary)}
    chosen = [i for i, text in enumerate(texts) if normalise_text(text) in number]
    if not chosen:
        return Figures(rates)
    truth = np.array([number[normalise_text(texts[i])] for i in chosen])
    for when, guesses in heard.items():
        guess = np.array([number.get(normalise_text(guesses[i]), len(number)) for i in chosen])
        for name, value in _resampled(truth, guess, len(number) + 1).items():
            rates.setdefault(name, {})[when] = value
    return Figures(rates, len(chosen))


def _resampled(
    truth: np.ndarray, guess: np.ndarray, classes: int, resamples: int = 400
) -> dict[str, Interval]:
    """Bootstrap over recordings: truth, guess (recordings,) class numbers."""
    whole = classification(truth, guess, classes)
    random = np.random.default_rng(0)
    picks = random.integers(len(truth), size=(resamples, len(truth)))
    drawn = [classification(truth[pick], guess[pick], classes) for pick in picks]
    out = {"accuracy": mean_interval(truth == guess)}
    for name in RATES[1:]:
        low, high = np.percentile([getattr(one, name) for one in drawn], (2.5, 97.5))
        out[name] = Interval(getattr(whole, name), float(high - low) / 2)
    return out


def written(
    heard: dict[str, Transcript], form: Literal["text", "json", "verbose_json", "srt", "vtt"], alone: bool
) -> str:
    """Transcripts by file as one text; `alone` leaves the file's name out."""
    if form in ("json", "verbose_json"):
        write = as_json if form == "json" else as_verbose_json
        values = [{**({} if alone else {"file": name}), **write(one)} for name, one in heard.items()]
        return json.dumps(values[0] if alone else values, indent=2, ensure_ascii=False) + "\n"
    if form in ("srt", "vtt"):
        write_cues = as_srt if form == "srt" else as_vtt
        return "".join(map(write_cues, heard.values()))
    return "".join(one.text + "\n" if alone else f"{name}: {one.text}\n" for name, one in heard.items())
