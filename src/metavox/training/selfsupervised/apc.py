"""Autoregressive predictive coding: the next frames are predicted from the past (Chung et al. 2019, section 2).

The encoder of the paper is causal. Here any kind of encoder can be trained: an utterance is cut at a random position,
the encoder gets only the frames before the cut, and the frames after it are predicted from the encoder's output. Any
statistics that the encoder computes are therefore of the past too.
"""

import torch
from torch import nn

from metavox.recognisers.conformer import Encoder, frame_mask
from metavox.training.distributed import ALONE, Ranks
from metavox.training.selfsupervised.masked import item_mean

PREDICTED_FRAMES = 20  # 0.2 s
CUTS_PER_UTTERANCE = 2
MIN_CONTEXT_FRAMES = 16


class AutoregressivePrediction(nn.Module):
    """Loss: mean absolute error of the next frames, relative to the mean of the frames before the cut."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder, self.mels = encoder, encoder.frontend.bands
        self.foretell = nn.Sequential(
            nn.Linear(2 * encoder.dim, 2 * encoder.dim),
            nn.SiLU(),
            nn.Linear(2 * encoder.dim, PREDICTED_FRAMES * self.mels),
        )

    def forward(
        self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator, ranks: Ranks = ALONE
    ) -> torch.Tensor:
        """Log-mels (batch, time, mel), lengths (batch,) -> scalar; utterances too short for a cut are ignored."""
        fraction = torch.rand(CUTS_PER_UTTERANCE * len(mels), generator=random).to(mels.device)
        cut = _cuts(lengths.repeat_interleave(CUTS_PER_UTTERANCE), fraction)
        longest, share = int(cut.max()), ranks.share(len(mels))
        cut = cut.view(-1, CUTS_PER_UTTERANCE)[share].flatten()
        mels, lengths = (
            tensor[share].repeat_interleave(CUTS_PER_UTTERANCE, dim=0) for tensor in (mels, lengths)
        )
        long_enough = lengths >= MIN_CONTEXT_FRAMES + PREDICTED_FRAMES
        prediction, context_mean = self.predict(mels, cut, longest)
        positions = (cut[:, None] + torch.arange(PREDICTED_FRAMES, device=cut.device)[None, :]).clamp_max(
            mels.shape[1] - 1
        )
        target = (mels.gather(1, positions.unsqueeze(2).expand(-1, -1, self.mels)) - context_mean) / 4.0
        errors = (prediction - target).abs().mean(dim=(1, 2)) * long_enough
        return ranks.mean(errors.sum(), long_enough.sum())

    def predict(
        self, mels: torch.Tensor, cut: torch.Tensor, longest: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict the frames after the first `cut` (batch,) frames of log-mels (batch, time, mel), padded to `longest`.

        Returns the next frames (batch, PREDICTED_FRAMES, mel), relative to the mean of the frames before the cut, and
        that mean (batch, 1, mel).
        """
        context = mels[:, : longest or int(cut.max())]
        inside = frame_mask(cut, context.shape[1])
        context = context * inside.unsqueeze(2)
        frames, lengths = self.encoder(context, cut)
        within = frame_mask(lengths, frames.shape[1]).unsqueeze(2)
        last = frames[torch.arange(len(frames), device=frames.device), lengths - 1]
        mean = (frames * within).sum(dim=1) / lengths[:, None]
        prediction = self.foretell(torch.cat([last, mean], dim=1)).view(-1, PREDICTED_FRAMES, self.mels)
        return prediction, item_mean(context[..., : self.mels], inside)


def _cuts(lengths: torch.Tensor, fraction: torch.Tensor) -> torch.Tensor:
    """Where utterances of `lengths` (batch,) are cut, at a `fraction` (batch,) of the range that is allowed."""
    free_frames = (lengths - PREDICTED_FRAMES - MIN_CONTEXT_FRAMES).clamp_min(0)
    return torch.minimum(
        MIN_CONTEXT_FRAMES + (fraction * (free_frames + 1)).long().clamp(max=free_frames), lengths
    )
