"""Random crops of unpaired recordings, drawn in the same way from clean speech and from adverse recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

MAX_PAUSE_REPEATS = 6  # of the four quietest frames


class Clips(Protocol):
    """Log-mels (time, mel) by index, such as a list or a store."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> torch.Tensor: ...


@dataclass(frozen=True)
class Crops:
    """Crops of `frames` frames from the concatenated clips of one group.

    A group is a speaker, and all groups are equally likely. The quietest frames of a clip are repeated after it, so that
    both kinds of recordings have pauses, and the noise floor is audible even if the clips were cut close to the words.
    """

    clips: Clips
    groups: Sequence[np.ndarray]  # clip indices
    frames: int

    def __call__(self, batch: int, random: torch.Generator) -> torch.Tensor:
        """Draw log-mels (batch, frames, mel)."""
        return torch.stack([self._crop(random) for _ in range(batch)])

    def _crop(self, random: torch.Generator) -> torch.Tensor:
        group = self.groups[_randint(len(self.groups), random)]
        segments: list[torch.Tensor] = []
        while sum(map(len, segments)) < self.frames + 16:
            clip = self.clips[int(group[_randint(len(group), random)])]
            segments += [clip, _quietest(clip).repeat(1 + _randint(MAX_PAUSE_REPEATS, random), 1)]
        mels = torch.cat(segments)
        start = _randint(len(mels) - self.frames + 1, random)
        return mels[start : start + self.frames]


def _quietest(clip: torch.Tensor, frames: int = 4) -> torch.Tensor:
    """The `frames` consecutive frames of least power of a clip (time, mel)."""
    if len(clip) <= frames:
        return clip
    power = clip.mean(dim=1).unfold(0, frames, 1).mean(dim=1)
    first = int(power.argmin())
    return clip[first : first + frames]


def _randint(limit: int, random: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=random))
