"""Segmentation of long recordings: cuts in pauses between recognised words, and pieces with their own texts."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from metavox.adaptation.segmentation import LONGEST_S, segment_recording
from metavox.recognisers.recogniser import Audio, DecodeOptions, Preset, Recipe, Recogniser, RecogniserSpec
from metavox.recognisers.transcript import Segment, Transcript, Word

RATE = 100
PAUSE_AFTER = 10  # words


class FixedTranscript(Recogniser):
    """Returns `words` at `times` (start, end) for any recording."""

    def __init__(self, words: Sequence[str], times: Sequence[tuple[float, float]]):
        self.spec = RecogniserSpec("fake", "fake", "base", RATE, 30.0, ("en",), ("lora",))
        self.network = nn.Linear(1, 1)
        self.words = tuple(Word(word, *at, 1.0) for word, at in zip(words, times, strict=True))

    def transcribe(
        self, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> list[Transcript]:
        assert options.word_times
        assert not torch.is_grad_enabled()
        return [Transcript((Segment("", 0.0, 1.0, 1.0, self.words),), 1.0) for _ in audio]

    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        raise NotImplementedError

    text_log_probs = predictions = loss

    def adapter_targets(self, preset: Preset) -> tuple[str, ...]:
        raise NotImplementedError

    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        raise NotImplementedError

    def perturb(self, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        raise NotImplementedError

    def speaker_frames(self, audio: Sequence[Audio]) -> list[torch.Tensor]:
        raise NotImplementedError

    def duration_s(self, audio: Audio) -> float:
        return len(audio) / RATE  # type: ignore[arg-type]


def spoken_words(count: int) -> tuple[list[str], list[tuple[float, float]], np.ndarray]:
    """Words of 0.5 s with pauses of 0.1 s, and 0.9 s after every tenth; each sample is its own index."""
    words, times, start_s = [], [], 0.5
    for number in range(count):
        words.append(f"w{chr(97 + number % 26)}{chr(97 + number // 26)}")
        times.append((start_s, start_s + 0.5))
        start_s += 0.6 + 0.8 * (number % PAUSE_AFTER == PAUSE_AFTER - 1)
    return words, times, np.arange(round((start_s + 1) * RATE), dtype=np.float32)


def test_pieces_are_cut_in_the_longest_pauses_and_lose_nothing() -> None:
    words, times, samples = spoken_words(50)
    text = " ".join(f"{word.title()}," for word in words)
    pieces = segment_recording(FixedTranscript(words, times), samples, text)
    assert " ".join(piece for _, piece in pieces) == text
    assert np.array_equal(np.concatenate([piece for piece, _ in pieces]), samples)
    assert len(pieces) > 2
    assert all(len(piece) <= LONGEST_S * RATE for piece, _ in pieces)
    for (before, _), (after, _) in pairwise(pieces):
        edge_s = after[0] / RATE
        assert before[-1] + 1 == after[0]
        assert min(abs(edge_s - (start - 0.45)) for start, _ in times[PAUSE_AFTER::PAUSE_AFTER]) < 0.02
    for piece, piece_text in pieces:
        expected = [
            w for w, (start, _) in zip(words, times, strict=True) if piece[0] <= start * RATE <= piece[-1]
        ]
        assert piece_text.lower().replace(",", "").split() == expected


def test_wrongly_transcribed_parts_are_left_out_with_their_words() -> None:
    words, times, samples = spoken_words(60)
    transcribed = [*words[:20], *("xx",) * 20, *words[40:]]
    pieces = segment_recording(FixedTranscript(transcribed, times), samples, " ".join(words))
    kept = " ".join(piece for _, piece in pieces).split()
    assert set(words[:10]) | set(words[50:]) <= set(kept)
    assert not set(words[25:35]) & set(kept)


@pytest.mark.parametrize("transcribed", [0, 5])
def test_the_text_of_another_recording_gives_no_pieces(transcribed: int) -> None:
    words, times, samples = spoken_words(60)
    assert (
        segment_recording(
            FixedTranscript(words[:transcribed], times[:transcribed]), samples, " ".join(["other"] * 60)
        )
        == []
    )


def test_a_recording_without_a_pause_to_cut_in_is_left_out_if_too_long() -> None:
    words, times, samples = spoken_words(60)
    every_other = FixedTranscript(words[::2], times[::2])
    assert segment_recording(every_other, samples, " ".join(words)) == []
