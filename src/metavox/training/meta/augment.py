"""Tasks that nobody recorded: against a learner that knows its training tasks by heart, and for rooms of a task's own.

Meta-overfitting is a start that fits the training tasks so well that it need not look at the support set (Rajendran et
al. 2020). The labels of a word task say nothing anyway, they are drawn anew in each; what is left is to have more words.
"""

from dataclasses import dataclass

import torch

from metavox.audio.perturb import LOG_FLOOR, Perturb

GAP = 40  # frames of silence between clips, longer than the longest tail of a room


def backwards(mels: torch.Tensor, lengths: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Log-mels (clips, time, mel), lengths and chosen (clips,): the chosen clips from their end to their beginning.

    Speech backwards keeps the spectra, the pitch and the length of speech and is another word, as a character turned
    by a quarter is another character (Santoro et al. 2016, section 4.1).
    """
    time = torch.arange(mels.shape[1], device=mels.device)[None, :]
    turned = chosen[:, None] & (time < lengths[:, None])
    index = torch.where(turned, lengths[:, None] - 1 - time, time)
    return mels.gather(1, index[:, :, None].expand_as(mels))


@dataclass(frozen=True)
class OneRoom:
    """A perturbation of which all clips of a task get the same: one microphone, one room, one noise, one rate.

    The clips are one long recording to `perturb`, with silence between them; what it draws, it draws once.
    """

    perturb: Perturb

    def scaled(self, strength: float) -> "OneRoom":
        return OneRoom(self.perturb.scaled(strength))

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (clips, time, mel), lengths (clips,) -> the same, perturbed; lengths follow the rate."""
        gap = mels.new_full((GAP, mels.shape[2]), LOG_FLOOR)
        parts = [part for mel, n in zip(mels, lengths.tolist(), strict=True) for part in (mel[:n], gap)]
        total = torch.tensor([sum(map(len, parts))])
        whole, after = self.perturb(torch.cat(parts)[None], total, generator)
        starts = torch.cat([torch.zeros(1), (lengths + GAP).cumsum(0)[:-1]])
        rate = float(after) / float(total)
        begin, count = (starts * rate).round().long(), (lengths * rate).round().long().clamp_min(1)
        clips = [whole[0, b : b + n] for b, n in zip(begin.tolist(), count.tolist(), strict=True)]
        return torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), count
