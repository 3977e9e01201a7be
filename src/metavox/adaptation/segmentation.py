"""Segmentation of long recordings and their texts into pieces short enough for a recogniser to learn from.

The recogniser's transcript, with word times, is aligned with the text. Cuts lie in pauses between two words that the
recogniser transcribed correctly.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
import torch

from metavox.recognisers.recogniser import DecodeOptions, Recogniser
from metavox.recognisers.transcript import Word
from metavox.text import normalise_text

LONGEST_S = 15.0  # of a piece, if there is a pause to cut in
MIN_MATCHED = 0.5  # share of the words of a piece that must be transcribed correctly

Piece = tuple[np.ndarray, str]
"""Samples (time,) and their text."""


def segment_recording(recogniser: Recogniser, samples: np.ndarray, text: str) -> list[Piece]:
    """Split samples (time,) at the recogniser's sample rate, and their text, into pieces in order.

    Pieces of which too few words are transcribed correctly are left out, for example where the text belongs to another
    recording, and so are pieces that are too long for the recogniser.
    """
    rate, longest_s = recogniser.spec.sample_rate_hz, recogniser.spec.longest_s
    words = text.split()
    recognised = _recognised_words(recogniser, samples, words)
    ends = [
        *_cuts(recognised, min(LONGEST_S, longest_s), len(samples) / rate),
        (len(words), len(samples) / rate),
    ]
    pieces, first, start_s = [], 0, 0.0
    for end, end_s in ends:
        matched = sum(index in recognised for index in range(first, end))
        if end_s - start_s <= longest_s and matched > MIN_MATCHED * (end - first):
            piece = samples[round(start_s * rate) : round(end_s * rate)]
            pieces.append((piece, " ".join(words[first:end])))
        first, start_s = end, end_s
    return pieces


def _recognised_words(recogniser: Recogniser, samples: np.ndarray, words: Sequence[str]) -> dict[int, Word]:
    """The correctly transcribed words with their times, by their index in the text."""
    with torch.inference_mode():
        (transcript,) = recogniser.transcribe([samples], DecodeOptions(word_times=True))
    recognised = [word for segment in transcript.segments for word in segment.words]
    matcher = SequenceMatcher(
        None,
        [normalise_text(word) for word in words],
        [normalise_text(word.text) for word in recognised],
        autojunk=False,
    )
    return {a + i: recognised[b + i] for a, b, size in matcher.get_matching_blocks() for i in range(size)}


def _cuts(recognised: dict[int, Word], longest_s: float, duration_s: float) -> list[tuple[int, float]]:
    """The index of the first word of each piece after the first one, and the time of the cut in seconds.

    A cut lies in the longest pause in the second half of the longest possible piece, otherwise in the next pause.
    """
    pauses = [
        (
            index,
            recognised[index].start_s - recognised[index - 1].end_s,
            (recognised[index].start_s + recognised[index - 1].end_s) / 2,
        )
        for index in sorted(recognised)
        if index - 1 in recognised and recognised[index].start_s >= recognised[index - 1].end_s
    ]
    cuts: list[tuple[int, float]] = []
    start_s = 0.0
    while duration_s - start_s > longest_s:
        candidates = [pause for pause in pauses if pause[2] > start_s + longest_s / 2]
        within_limit = [pause for pause in candidates if pause[2] <= start_s + longest_s]
        if not candidates:
            break
        index, _, start_s = max(within_limit, key=lambda pause: pause[1]) if within_limit else candidates[0]
        cuts.append((index, start_s))
    return cuts
