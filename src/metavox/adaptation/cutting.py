"""Long recordings with their text, in pieces that a recogniser can learn from.

What it hears, with the times of words, is aligned with what is said; cuts lie in pauses between two words that it heard right.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
import torch

from metavox.recognisers.recogniser import DecodeOptions, Recogniser
from metavox.recognisers.transcript import Word
from metavox.text import normalise_text

LONGEST_S = 15.0  # of a piece, where there is a place to cut
SURE = 0.5  # of a piece's words have to be heard as they are written

Piece = tuple[np.ndarray, str]
"""Samples (time,) and what is said in them."""


def pieces(recogniser: Recogniser, samples: np.ndarray, text: str) -> list[Piece]:
    """Samples (time,) at the recogniser's rate in pieces with their parts of the text, in order.

    Left out is what is heard as too few of its words, as it is where the text is of something else, and what stays longer
    than the recogniser takes.
    """
    rate, longest_s = recogniser.spec.sample_rate_hz, recogniser.spec.longest_s
    words = text.split()
    heard = _heard(recogniser, samples, words)
    ends = [*_cuts(heard, min(LONGEST_S, longest_s), len(samples) / rate), (len(words), len(samples) / rate)]
    out, first, start_s = [], 0, 0.0
    for end, end_s in ends:
        sure = sum(number in heard for number in range(first, end))
        if end_s - start_s <= longest_s and sure > SURE * (end - first):
            part = samples[round(start_s * rate) : round(end_s * rate)]
            out.append((part, " ".join(words[first:end])))
        first, start_s = end, end_s
    return out


def _heard(recogniser: Recogniser, samples: np.ndarray, words: Sequence[str]) -> dict[int, Word]:
    """The words that were heard as they are written, by their number in the text."""
    with torch.inference_mode():
        (transcript,) = recogniser.transcribe([samples], DecodeOptions(word_times=True))
    heard = [word for segment in transcript.segments for word in segment.words]
    matcher = SequenceMatcher(
        None,
        [normalise_text(word) for word in words],
        [normalise_text(word.text) for word in heard],
        autojunk=False,
    )
    return {a + i: heard[b + i] for a, b, size in matcher.get_matching_blocks() for i in range(size)}


def _cuts(heard: dict[int, Word], longest_s: float, duration_s: float) -> list[tuple[int, float]]:
    """Numbers of words that pieces begin with after the first, and where: in the longest pause of a piece's second half,
    else at the next place there is."""
    places = [
        (
            number,
            heard[number].start_s - heard[number - 1].end_s,
            (heard[number].start_s + heard[number - 1].end_s) / 2,
        )
        for number in sorted(heard)
        if number - 1 in heard and heard[number].start_s >= heard[number - 1].end_s
    ]
    out: list[tuple[int, float]] = []
    start_s = 0.0
    while duration_s - start_s > longest_s:
        later = [place for place in places if place[2] > start_s + longest_s / 2]
        near = [place for place in later if place[2] <= start_s + longest_s]
        if not later:
            break
        number, _, start_s = max(near, key=lambda place: place[1]) if near else later[0]
        out.append((number, start_s))
    return out
