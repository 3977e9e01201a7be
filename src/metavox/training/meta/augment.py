"""Augmentation of tasks: reversed words against meta-overfitting, and one room for all clips of a task.

In meta-overfitting, the initial weights fit the training tasks so well that they no longer need the support set
(Rajendran et al. 2020). The labels of word tasks are already drawn anew in each task, so the remaining remedy is more
words.
"""

from dataclasses import dataclass

import torch

from metavox.audio.perturb import LOG_FLOOR, Perturb

GAP = 40  # frames of silence between clips, longer than any reverberation


def reverse_clips(mels: torch.Tensor, lengths: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """Reverse the selected clips in time: log-mels (clips, time, mel), `lengths` and `selected` (clips,).

    Reversed speech keeps the spectra, pitch and duration of speech but is another word, as a character rotated by 90
    degrees is another character (Santoro et al. 2016, section 4.1).
    """
    time = torch.arange(mels.shape[1], device=mels.device)[None, :]
    reversed_frames = selected[:, None] & (time < lengths[:, None])
    index = torch.where(reversed_frames, lengths[:, None] - 1 - time, time)
    return mels.gather(1, index[:, :, None].expand_as(mels))


@dataclass(frozen=True)
class SharedRoom:
    """Applies the same perturbation to all clips of a task: one microphone, room, noise and speed.

    `perturb` gets the clips as one long recording with silence between them, so that it draws its parameters once.
    """

    perturb: Perturb

    def scaled(self, strength: float) -> "SharedRoom":
        return SharedRoom(self.perturb.scaled(strength))

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Perturb log-mels (clips, time, mel) of lengths (clips,); returns both, with lengths scaled by the speed."""
        gap = mels.new_full((GAP, mels.shape[2]), LOG_FLOOR)
        segments = [
            segment for mel, n in zip(mels, lengths.tolist(), strict=True) for segment in (mel[:n], gap)
        ]
        total = torch.tensor([sum(map(len, segments))])
        perturbed, perturbed_length = self.perturb(torch.cat(segments)[None], total, generator)
        starts = torch.cat([torch.zeros(1), (lengths + GAP).cumsum(0)[:-1]])
        rate = float(perturbed_length) / float(total)
        first_frames, counts = (starts * rate).round().long(), (lengths * rate).round().long().clamp_min(1)
        clips = [
            perturbed[0, start : start + n]
            for start, n in zip(first_frames.tolist(), counts.tolist(), strict=True)
        ]
        return torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), counts
