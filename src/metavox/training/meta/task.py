"""The inputs and outputs of meta-learners: tasks, adapted weights and meta-gradients."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

Weights = Mapping[str, torch.Tensor]


class Clips(NamedTuple):
    """Log-mels (clips, time, mel), lengths (clips,), and targets.

    For words, targets are one-hot (clips, way), with a row of zeros for a clip of none of the words. For utterances,
    they are symbols (clips, labels), padded with -1.
    """

    mels: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor


class Task(NamedTuple):
    """The weights adapt to `support` and are evaluated on `query`. Stacked tasks have an additional leading axis."""

    support: Clips
    query: Clips


class Outcome(NamedTuple):
    """The adapted weights, their loss on the queries, and a score in 0..1."""

    adapted: Weights
    loss: torch.Tensor
    score: torch.Tensor


class Gradient(NamedTuple):
    """A gradient for each weight that the task has an influence on, with the loss and the score of the queries."""

    gradients: Weights
    loss: torch.Tensor
    score: torch.Tensor


def stack(tasks: Sequence[Task]) -> Task:
    """Stack tasks with equal numbers of clips and words, padded to the longest. Raises ValueError if the numbers differ."""
    return Task(*(_stack([task[side] for task in tasks]) for side in (0, 1)))


def _stack(clips: Sequence[Clips]) -> Clips:
    counts = {item.lengths.shape[0] for item in clips}
    if len(counts) > 1:
        raise ValueError(
            f"tasks of {sorted(counts)} clips cannot be stacked; expected the same number of clips in each"
        )
    time = max(item.mels.shape[1] for item in clips)
    labels = max(item.targets.shape[1] for item in clips)
    return Clips(
        torch.stack([F.pad(item.mels, (0, 0, 0, time - item.mels.shape[1])) for item in clips]),
        torch.stack([item.lengths for item in clips]),
        torch.stack([F.pad(item.targets, (0, labels - item.targets.shape[1]), value=-1) for item in clips]),
    )
