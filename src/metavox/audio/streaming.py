"""Log-mels of sound that is still coming: the same frames as of the whole, in chunks of any size."""

import torch

from metavox.audio.features import LogMel


class StreamingLogMel:
    """Frames as soon as their window is full. The offline transform centres its windows and pads both ends with zeros."""

    def __init__(self, transform: LogMel):
        self._transform = transform
        self._kept = torch.zeros(transform.fft // 2)
        self._samples = 0

    def push(self, samples: torch.Tensor) -> torch.Tensor:
        """The next samples (time,) -> the frames (frames, mel) that they complete."""
        self._samples += len(samples)
        self._kept = torch.cat([self._kept, samples])
        return self._frames()

    def end(self) -> torch.Tensor:
        """The last frames (frames, mel), those whose windows reach behind the end."""
        config, fft = self._transform.config, self._transform.fft
        short = max(0, config.window - self._samples)  # offline, less than a window is filled up to one
        self._kept = torch.cat([self._kept, torch.zeros(short + fft // 2)])
        return self._frames()

    def _frames(self) -> torch.Tensor:
        hop, fft = self._transform.config.hop, self._transform.fft
        count = max(0, (len(self._kept) - fft) // hop + 1)
        if not count:
            return torch.zeros(0, self._transform.config.mels)
        frames = self._transform.of_frames(self._kept[: (count - 1) * hop + fft])
        self._kept = self._kept[count * hop :]
        return frames
