"""Frames of audio: a window centred at every `hop`-th sample, beginning with the first sample."""

import math

import torch

from metavox.audio.mono import MAX_AMPLITUDE
from metavox.errors import UserError

FLOOR = 1e-8  # power 80 dB below full scale, the least that is used, so that no logarithm is infinite
BLOCK = 512  # frames that fit a core's cache together with all intermediate results
BLOCK_THREADS = 1 << 13  # with several threads: they wait for each other after every operation
BLOCK_ACCELERATOR = 1 << 16  # on an accelerator, which needs many at once


class Framed(torch.nn.Module):
    """Maps each window of `span` samples (even) to `width` numbers.

    A recording is surrounded by silence, and padded with silence to at least `least` samples. An hour takes
    the memory of its samples and frames: everything in between is computed block by block, with the same
    result.
    """

    span: int
    hop: int
    width: int
    least: int = 0

    def of_frames(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples (..., time) -> one row for each window that lies fully inside: (..., (time - span) // hop +
        1, width).
        """
        raise NotImplementedError

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(time,) or (batch, time) samples -> (frames, width) or (batch, frames, width)."""
        missing = max(0, self.least - samples.shape[-1])
        padded = torch.nn.functional.pad(samples, (self.span // 2, missing + self.span // 2))
        if padded.dim() == 1:
            return self.blockwise(padded)
        items = max(1, _block_frames(samples) * self.hop // padded.shape[1])
        return torch.cat([self.blockwise(group) for group in padded.split(items)])

    def blockwise(self, samples: torch.Tensor) -> torch.Tensor:
        """Apply `of_frames` in blocks of time."""
        count = (samples.shape[-1] - self.span) // self.hop + 1
        # Blocks of equal size: a last block of one frame would be summed in another order.
        size = math.ceil(count / math.ceil(count / _block_frames(samples)))
        starts = range(0, count, size)
        ends = ((min(start + size, count) - 1) * self.hop + self.span for start in starts)
        blocks = (samples[..., start * self.hop : end] for start, end in zip(starts, ends, strict=True))
        return torch.cat([self.of_frames(block) for block in blocks], dim=-2)


def _block_frames(samples: torch.Tensor) -> int:
    """The most frames in a block."""
    if samples.device.type != "cpu":
        return BLOCK_ACCELERATOR
    return BLOCK if torch.get_num_threads() == 1 else BLOCK_THREADS


def check_samples(samples: torch.Tensor) -> None:
    """Raises UserError for samples that are not finite or far beyond full scale."""
    low, high = samples.aminmax() if samples.numel() else (0.0, 0.0)
    if not (low >= -MAX_AMPLITUDE and high <= MAX_AMPLITUDE):  # NaN fails both comparisons
        raise UserError(
            f"samples between {float(low):g} and {float(high):g}; expected numbers about full scale 1; convert it again"
        )
