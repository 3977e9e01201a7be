"""What to expect of new recordings, from the few that there are: cross-validation, with honest intervals."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchaudio.functional import edit_distance

from metavox.learn.joint import ctc_loss
from metavox.recognisers.conformer.network import Network, pad
from metavox.recognisers.conformer.tokenizer import BLANK

Z = 1.96  # of a 95% interval


@dataclass(frozen=True)
class Heard:
    """What a model made of recordings: CTC loss a character, edits and lengths in characters (recordings,)."""

    loss: float
    edits: np.ndarray
    lengths: np.ndarray

    @classmethod
    def together(cls, parts: Sequence["Heard"]) -> "Heard":
        weights = [part.lengths.sum() for part in parts]
        return cls(
            float(np.average([part.loss for part in parts], weights=weights)),
            np.concatenate([part.edits for part in parts]), np.concatenate([part.lengths for part in parts]),
        )  # fmt: skip

    def rate(self) -> dict[str, float]:
        """The character error rate, and half its 95% interval by the variance of a ratio of sums."""
        total = max(1, int(self.lengths.sum()))
        mean = float(self.edits.sum() / total)
        apart = self.edits - mean * self.lengths
        return {"mean": mean, "ci95": float(Z * np.sqrt(np.square(apart).sum()) / total)}


def hear(model: Network, mels: Sequence[torch.Tensor], tokens: Sequence[list[int]]) -> Heard:
    """Log-mels (frames, mel) with the tokens that were said -> how well the model's best path fits them."""
    with torch.inference_mode():
        characters, frames = model.characters(*pad(list(mels)))
        loss = float(ctc_loss(characters, frames, list(tokens)))
    best = characters.argmax(dim=2)
    guesses = [torch.unique_consecutive(row[:n]) for row, n in zip(best, frames, strict=True)]
    edits = [
        edit_distance([t for t in guess.tolist() if t != BLANK], said)
        for guess, said in zip(guesses, tokens, strict=True)
    ]
    return Heard(loss, np.array(edits), np.array([len(said) for said in tokens]))


def fold_numbers(mels: Sequence[torch.Tensor], folds: int, labels: Sequence[str] | None = None) -> np.ndarray:
    """(recordings,): the fold that each is held out in; -1 where a label's recordings all are the same one.

    Identical recordings are in one fold: none is asked about that was learned from. Labels are spread evenly.
    """
    same = [hashlib.sha256(m.contiguous().numpy().tobytes()).hexdigest() for m in mels]
    names = labels or [""] * len(mels)
    number = np.full(len(mels), -1)
    shift = 0  # the next label goes on where the last one ended, so that folds are of one size
    for name in sorted(set(names)):
        own = [i for i, label in enumerate(names) if label == name]
        distinct = list(dict.fromkeys(same[i] for i in own))
        if len(distinct) < 2:
            continue
        for i in own:
            number[i] = (distinct.index(same[i]) + shift) % folds
        shift += len(distinct)
    _, compact = np.unique(number[number >= 0], return_inverse=True)
    number[number >= 0] = compact
    return number


def proportion(right: np.ndarray) -> dict[str, float]:
    """Whether each was right (clips,) -> the share, and its 95% interval (Wilson 1927), which ten of ten
    right recordings do not make certain."""
    n = len(right)
    share = float(np.mean(right))
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return {"mean": share, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}
