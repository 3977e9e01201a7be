"""What a meta-learner is given and gives back: tasks, and weights with what they are worth."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

Weights = Mapping[str, torch.Tensor]


class Clips(NamedTuple):
    """Log-mels (clips, time, mel), lengths (clips,), and targets.

    Targets of words are one-hot (clips, way), a row of zeros where a clip is none of the words; those of utterances
    are symbols (clips, labels), -1 behind the last.
    """

    mels: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor


class Task(NamedTuple):
    """`support` teaches, `query` is asked about. In a stack of tasks every tensor has one more axis in front."""

    support: Clips
    query: Clips


class Outcome(NamedTuple):
    """The adapted weights, the loss of the queries under them, and a score in 0..1 that people can read."""

    adapted: Weights
    loss: torch.Tensor
    score: torch.Tensor


class Gradient(NamedTuple):
    """Where the weights should not go: a slope for each that the task has something to say about."""

    slopes: Weights
    loss: torch.Tensor
    score: torch.Tensor


def stack(tasks: Sequence[Task]) -> Task:
    """Tasks of as many clips and words each to one stack, padded to the longest. Raises ValueError where they differ."""
    return Task(*(_stack([task[side] for task in tasks]) for side in (0, 1)))


def _stack(halves: Sequence[Clips]) -> Clips:
    counts = {half.lengths.shape[0] for half in halves}
    if len(counts) > 1:
        raise ValueError(f"tasks of {sorted(counts)} clips cannot be one stack; expected as many in each")
    time = max(half.mels.shape[1] for half in halves)
    labels = max(half.targets.shape[1] for half in halves)
    return Clips(
        torch.stack([F.pad(half.mels, (0, 0, 0, time - half.mels.shape[1])) for half in halves]),
        torch.stack([half.lengths for half in halves]),
        torch.stack([F.pad(half.targets, (0, labels - half.targets.shape[1]), value=-1) for half in halves]),
    )
