"""BEST-RQ: masked segments are classified by their entries in a fixed random codebook (Chiu et al. 2022, section 3)."""

import torch
from torch import nn
from torch.nn import functional as F

from metavox.recognisers.conformer import Encoder, frame_mask
from metavox.training.distributed import ALONE, Ranks
from metavox.training.selfsupervised.masked import Masking, item_mean

CODES, CODE_DIM = 1024, 16
NOISE = 0.1  # standard deviation of the noise in masked frames, relative to that of the utterance, as in the paper


class RandomProjectionQuantiser(nn.Module):
    """Maps stacked frames to the nearest of random unit vectors, after a random projection.

    Each band of the input must have zero mean and unit variance over its utterance. The quantiser is not trained; its
    buffers are saved in checkpoints.
    """

    projection: torch.Tensor
    codebook: torch.Tensor

    def __init__(self, stacked: int):
        super().__init__()
        projection = nn.init.xavier_uniform_(torch.empty(stacked, CODE_DIM))
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(torch.randn(CODES, CODE_DIM), dim=1))

    def forward(self, stacked: torch.Tensor) -> torch.Tensor:
        """(batch, frames, stacked) -> codes (batch, frames)."""
        # Codes must not depend on the precision of training.
        with torch.autocast(stacked.device.type, enabled=False):
            return (F.normalize(stacked @ self.projection, dim=-1) @ self.codebook.T).argmax(dim=-1)


class MaskedCodes(nn.Module):
    """Loss: cross-entropy of the codes of masked frames inside the utterance."""

    def __init__(self, encoder: Encoder, masking: Masking):
        super().__init__()
        self.encoder, self.stack = encoder, encoder.subsampling
        self.masking = Masking(time=masking.time, frequency=0.0, span_frames=10 * encoder.subsampling)
        self.quantise = RandomProjectionQuantiser(self.stack * encoder.frontend.bands)
        self.classify = nn.Linear(encoder.dim, CODES)

    def forward(
        self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator, ranks: Ranks = ALONE
    ) -> torch.Tensor:
        """Log-mels (batch, time, mel), lengths (batch,) -> scalar."""
        share = ranks.share(len(mels))
        hidden = self.masking((len(mels), mels.shape[1], mels.shape[2]), random)[share].to(mels.device)
        noise = torch.randn(mels.shape, generator=random)[share].to(mels.device)
        mels, lengths = mels[share], lengths[share]
        time = mels.shape[1]
        inside = frame_mask(lengths, time)
        mean, spread = item_mean(mels, inside), _item_spread(mels, inside)
        codes = self.codes(mels, lengths)
        noise = mean + NOISE * spread * noise
        frames, frame_lengths = self.encoder(torch.where(hidden, noise, mels) * inside.unsqueeze(2), lengths)
        fully_hidden = (
            F.pad(hidden[:, :, 0], (0, -time % self.stack)).unflatten(1, (-1, self.stack)).all(dim=2)
        )
        scored = fully_hidden[:, : frames.shape[1]] & frame_mask(frame_lengths, frames.shape[1])
        if not scored.any():
            return ranks.mean(frames.sum() * 0.0, scored.sum())
        logits, targets = self.classify(frames)[scored].float(), codes[:, : frames.shape[1]][scored]
        return ranks.mean(F.cross_entropy(logits, targets, reduction="sum"), scored.sum())

    def codes(self, mels: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """The codes (batch, frames) of log-mels (batch, time, mel), one for every `subsampling` input frames."""
        mels = mels[..., : self.encoder.frontend.bands]
        inside = frame_mask(lengths, mels.shape[1])
        normalised = (mels - item_mean(mels, inside)) / _item_spread(mels, inside) * inside.unsqueeze(2)
        normalised = F.pad(normalised, (0, 0, 0, -mels.shape[1] % self.stack))
        return self.quantise(normalised.unflatten(1, (-1, self.stack)).flatten(2))

    def perplexity(self, mels: torch.Tensor, lengths: torch.Tensor) -> float:
        """The effective number of codes in use: between 1 and CODES."""
        codes = self.codes(mels, lengths)
        used = codes[frame_mask(-(-lengths // self.stack), codes.shape[1])]
        fraction = torch.bincount(used, minlength=CODES) / len(used)
        return float(torch.special.entr(fraction).sum().exp())


def _item_spread(mels: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Standard deviation of each band over each utterance (batch, 1, mel), at least a tenth of a neper."""
    centred = (mels - item_mean(mels, inside)) * inside.unsqueeze(2)
    return (
        (centred.square().sum(dim=1, keepdim=True) / inside.sum(dim=1)[:, None, None]).sqrt().clamp_min(0.1)
    )
