"""Autoregressive predictive coding: from the past alone, what comes next (Chung et al. 2019, section 2).

The paper's encoder looks back only. Ours may look both ways, so it is given the past only: an utterance is cut at a
random place, the encoder hears what is before the cut, and its last frames must say what is behind. Its own
statistics are then of the past too, and any kind of encoder can be trained.
"""

import torch
from torch import nn

from metavox.recognisers.conformer import Encoder, frame_mask
from metavox.training.selfsupervised.masked import item_mean

AHEAD = 20  # frames that are foretold, 0.2 s
CUTS = 2  # of each utterance
LEAST = 16  # frames that are heard


class AutoregressivePrediction(nn.Module):
    """Loss: mean absolute error of the next frames, relative to the mean of what was heard."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder, self.mels = encoder, encoder.config.mels
        self.foretell = nn.Sequential(
            nn.Linear(2 * encoder.dim, 2 * encoder.dim),
            nn.SiLU(),
            nn.Linear(2 * encoder.dim, AHEAD * self.mels),
        )

    def forward(self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Log-mels (batch, time, mel), lengths (batch,) -> scalar; utterances too short for a cut count as nothing."""
        mels, lengths = mels.repeat_interleave(CUTS, dim=0), lengths.repeat_interleave(CUTS)
        long_enough = lengths >= LEAST + AHEAD
        room = (lengths - AHEAD - LEAST).clamp_min(0)
        share = torch.rand(len(mels), generator=random).to(mels.device)
        cut = torch.minimum(LEAST + (share * (room + 1)).long().clamp(max=room), lengths)
        guess, heard_mean = self.predict(mels, cut)
        place = (cut[:, None] + torch.arange(AHEAD, device=cut.device)[None, :]).clamp_max(mels.shape[1] - 1)
        target = (mels.gather(1, place.unsqueeze(2).expand(-1, -1, self.mels)) - heard_mean) / 4.0
        errors = (guess - target).abs().mean(dim=(1, 2)) * long_enough
        return errors.sum() / long_enough.sum().clamp_min(1)

    def predict(self, mels: torch.Tensor, cut: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (batch, time, mel), frames heard (batch,) -> the next AHEAD frames, and the mean (batch, 1, mel) of
        what was heard, which they are relative to."""
        heard = mels[:, : int(cut.max())]
        inside = frame_mask(cut, heard.shape[1])
        heard = heard * inside.unsqueeze(2)
        frames, lengths = self.encoder(heard, cut)
        within = frame_mask(lengths, frames.shape[1]).unsqueeze(2)
        last = frames[torch.arange(len(frames), device=frames.device), lengths - 1]
        mean = (frames * within).sum(dim=1) / lengths[:, None]
        guess = self.foretell(torch.cat([last, mean], dim=1)).view(-1, AHEAD, self.mels)
        return guess, item_mean(heard[..., : self.mels], inside)
