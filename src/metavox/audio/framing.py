"""Frames of sound: a window centred at every `hop`-th sample, the first at the very first one."""

import math

import torch

from metavox.audio.read import LOUDEST
from metavox.errors import UserError

FLOOR = 1e-8  # -80 dB under full scale; the power of digital silence, so that no logarithm is infinite
BLOCK = 512  # frames that a core's cache holds with all that is made of them
BLOCK_SHARED = 1 << 13  # threads that share the work wait for each other after every step
BLOCK_ELSEWHERE = 1 << 16  # an accelerator wants many at once


class Framed(torch.nn.Module):
    """Windows of `span` samples (even) to `width` numbers each.

    Outside a recording is silence, and so is what a recording lacks to `least` samples. An hour takes the memory of its
    samples and frames; what lies between is made block by block, with the same result.
    """

    span: int
    hop: int
    width: int
    least: int = 0

    def of_frames(self, samples: torch.Tensor) -> torch.Tensor:
        """Windows that lie wholly inside (..., time) -> ((time - span) // hop + 1 frames, width)."""
        raise NotImplementedError

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(time,) or (batch, time) samples -> (frames, width) or (batch, frames, width)."""
        short = max(0, self.least - samples.shape[-1])
        padded = torch.nn.functional.pad(samples, (self.span // 2, short + self.span // 2))
        if padded.dim() == 1:
            return self.blockwise(padded)
        items = max(1, _block(samples) * self.hop // padded.shape[1])
        return torch.cat([self.blockwise(part) for part in padded.split(items)])

    def blockwise(self, samples: torch.Tensor) -> torch.Tensor:
        """`of_frames`, in blocks of time."""
        count = (samples.shape[-1] - self.span) // self.hop + 1
        # Blocks of one size: a last block of one frame would be summed in another order.
        size = math.ceil(count / math.ceil(count / _block(samples)))
        starts = range(0, count, size)
        ends = ((min(start + size, count) - 1) * self.hop + self.span for start in starts)
        blocks = (samples[..., start * self.hop : end] for start, end in zip(starts, ends, strict=True))
        return torch.cat([self.of_frames(block) for block in blocks], dim=-2)


def _block(samples: torch.Tensor) -> int:
    """Frames in a block, at most."""
    if samples.device.type != "cpu":
        return BLOCK_ELSEWHERE
    return BLOCK if torch.get_num_threads() == 1 else BLOCK_SHARED


def check_samples(samples: torch.Tensor) -> None:
    """Raises UserError for samples that no feature can be made of."""
    low, high = samples.aminmax() if samples.numel() else (0.0, 0.0)
    if not (low >= -LOUDEST and high <= LOUDEST):  # what is no number is neither
        raise UserError(
            f"samples between {float(low):g} and {float(high):g}; expected numbers about full scale 1; convert it again"
        )
