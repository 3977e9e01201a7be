"""Crops of unpaired recordings, of both sides in the same manner."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

PAUSE = 6  # times four frames, at most


class Clips(Protocol):
    """Log-mels (time, mel) by number: a list, or a store."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> torch.Tensor: ...


@dataclass(frozen=True)
class Crops:
    """Stretches of `frames` frames: a group is drawn, and clips of it run on.

    A group is a speaker: each is as likely as any other. After each clip its own quietest moment lasts on for a while, so
    that both sides have words and pauses alike, and a floor can be heard where words were cut out close.
    """

    clips: Clips
    groups: Sequence[np.ndarray]  # of clip numbers
    frames: int

    def __call__(self, batch: int, random: torch.Generator) -> torch.Tensor:
        """(batch, frames, mel)"""
        return torch.stack([self._one(random) for _ in range(batch)])

    def _one(self, random: torch.Generator) -> torch.Tensor:
        group = self.groups[_below(len(self.groups), random)]
        parts: list[torch.Tensor] = []
        while sum(map(len, parts)) < self.frames + 16:
            clip = self.clips[int(group[_below(len(group), random)])]
            parts += [clip, _quietest(clip).repeat(1 + _below(PAUSE, random), 1)]
        mels = torch.cat(parts)
        start = _below(len(mels) - self.frames + 1, random)
        return mels[start : start + self.frames]


def _quietest(clip: torch.Tensor, frames: int = 4) -> torch.Tensor:
    """(time, mel) -> the stretch of least power."""
    if len(clip) <= frames:
        return clip
    power = clip.mean(dim=1).unfold(0, frames, 1).mean(dim=1)
    first = int(power.argmin())
    return clip[first : first + frames]


def _below(limit: int, random: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=random))
