"""Features of sound that is still coming: the same frames as of the whole, in chunks of any size."""

import torch

from metavox.audio.features import LogMel, WithExtras
from metavox.audio.framing import check_samples


class StreamingFeatures:
    """Frames as soon as their widest window is full. Offline, windows are centred and both ends padded with zeros."""

    def __init__(self, transform: LogMel | WithExtras):
        self._transform = transform
        self._kept = next(transform.buffers()).new_zeros(transform.span // 2)
        self._samples = 0

    def push(self, samples: torch.Tensor) -> torch.Tensor:
        """The next samples (time,) -> the frames (frames, width) that they complete.

        Raises UserError, and takes nothing in, for samples that are no numbers, or far beyond full scale.
        """
        check_samples(samples)
        self._samples += len(samples)
        self._kept = torch.cat([self._kept, samples])
        return self._frames()

    def end(self) -> torch.Tensor:
        """The last frames (frames, width), those whose windows reach behind the end."""
        short = max(0, self._transform.least - self._samples)
        self._kept = torch.cat([self._kept, self._kept.new_zeros(short + self._transform.span // 2)])
        return self._frames()

    def _frames(self) -> torch.Tensor:
        hop, span = self._transform.hop, self._transform.span
        count = max(0, (len(self._kept) - span) // hop + 1)
        if not count:
            return self._kept.new_zeros(0, self._transform.width)
        frames = self._transform.blockwise(self._kept[: (count - 1) * hop + span])
        self._kept = self._kept[count * hop :]
        return frames
