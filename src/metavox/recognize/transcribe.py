"""A recording to text: enrolled words where one fits, characters otherwise, long recordings in windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metavox.audio.features import extract, make_transform
from metavox.recognisers.conformer.delta import Delta
from metavox.recognisers.conformer.enrolled import word_scores
from metavox.recognisers.conformer.network import Network
from metavox.recognize.decode import Word, greedy, text_of

WINDOW_S = 20.0
LONGEST_WORD_S = 3.0  # an enrolled word is looked for in recordings up to this long


@dataclass(frozen=True)
class Segment:
    """A stretch of speech; times in seconds."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Transcript:
    segments: tuple[Segment, ...]
    duration_s: float

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)


@dataclass(frozen=True)
class Guess:
    """The enrolled words by similarity, best first; `word` is None when even the best is too far.

    `confidence` is the probability of `word`, or of none of them.
    """

    word: str | None
    similarities: tuple[tuple[str, float], ...]
    confidence: float = 0.0


def transcribe(model: Network, samples: np.ndarray, enrolled: Delta | None = None) -> Transcript:
    """Samples (time,) at the model's rate. With enrolled words, a short recording that is close enough to one gives it."""
    rate = model.config.features.sample_rate_hz
    duration = len(samples) / rate
    if enrolled and enrolled.words and duration <= LONGEST_WORD_S:
        guess = recognise_word(model, samples, enrolled)
        if guess.word:
            segment = Segment(guess.word, 0.0, duration, guess.confidence)
            return Transcript((segment,), duration)
    return Transcript(tuple(_segment(model, *window) for window in _windows(samples, rate)), duration)


def recognise_word(model: Network, samples: np.ndarray, enrolled: Delta) -> Guess:
    """Which enrolled word a recording (time,) is, or none of them."""
    mels = extract(samples, make_transform(model.config.features))
    scores = word_scores(model, enrolled, [mels])[0]
    with_none = torch.cat([scores, torch.tensor([enrolled.threshold])])
    chances = (enrolled.sharpness * with_none).softmax(dim=0)
    ranked = sorted(zip(enrolled.words, scores.tolist(), strict=True), key=lambda pair: -pair[1])
    found = ranked[0][1] >= enrolled.threshold
    return Guess(
        ranked[0][0] if found else None, tuple(ranked), float(chances[:-1].max() if found else chances[-1])
    )


def character_log_probs(model: Network, mels: torch.Tensor) -> torch.Tensor:
    """Log-mels (frames, mel) -> (frames/4, alphabet)."""
    with torch.inference_mode():
        return model.characters(mels.unsqueeze(0), torch.tensor([len(mels)]))[0].squeeze(0)


def _segment(model: Network, samples: np.ndarray, start_s: float) -> Segment:
    rate = model.config.features.sample_rate_hz
    words = greedy(character_log_probs(model, extract(samples, make_transform(model.config.features))), model)
    end_s = start_s + len(samples) / rate
    # The last frame may reach past the last sample.
    moved = tuple(
        Word(w.text, min(w.start_s + start_s, end_s), min(w.end_s + start_s, end_s), w.confidence)
        for w in words
    )
    confidence = float(np.mean([w.confidence for w in words])) if words else 0.0
    return Segment(text_of(words), start_s, end_s, confidence, moved)


def _windows(samples: np.ndarray, rate: int) -> Sequence[tuple[np.ndarray, float]]:
    """Cut at the quietest place near every `WINDOW_S`, so that words stay whole."""
    size, start, windows = int(WINDOW_S * rate), 0, []
    while len(samples) - start > size:
        part = np.abs(samples[start + size // 2 : start + size])
        frames = part[: len(part) // 160 * 160].reshape(-1, 160).mean(axis=1)
        smooth = np.convolve(frames, np.ones(20) / 20, mode="valid")  # "same" finds the edges quiet
        cut = start + size // 2 + (int(smooth.argmin()) + 10) * 160
        windows.append((samples[start:cut], start / rate))
        start = cut
    windows.append((samples[start:], start / rate))
    return windows
