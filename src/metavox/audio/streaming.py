"""Features of a live stream: the same frames as of the whole recording, from chunks of any size."""

import torch

from metavox.audio.features import LogMel, WithExtras
from metavox.audio.framing import check_samples


class StreamingFeatures:
    """Gives each frame as soon as its widest window is full.

    Windows are centred and both ends padded with zeros, as for whole recordings.
    """

    def __init__(self, transform: LogMel | WithExtras):
        self._transform = transform
        self._pending = next(transform.buffers()).new_zeros(transform.span // 2)
        self._samples = 0

    def push(self, samples: torch.Tensor) -> torch.Tensor:
        """The next samples (time,) -> the frames (frames, width) that they complete.

        Raises UserError, and discards the chunk, for samples that are not finite or far beyond full scale.
        """
        check_samples(samples)
        self._samples += len(samples)
        self._pending = torch.cat([self._pending, samples])
        return self._frames()

    def end(self) -> torch.Tensor:
        """The last frames (frames, width): those whose windows reach past the end."""
        missing = max(0, self._transform.least - self._samples)
        self._pending = torch.cat(
            [self._pending, self._pending.new_zeros(missing + self._transform.span // 2)]
        )
        return self._frames()

    def _frames(self) -> torch.Tensor:
        hop, span = self._transform.hop, self._transform.span
        count = max(0, (len(self._pending) - span) // hop + 1)
        if not count:
            return self._pending.new_zeros(0, self._transform.width)
        frames = self._transform.blockwise(self._pending[: (count - 1) * hop + span])
        self._pending = self._pending[count * hop :]
        return frames
