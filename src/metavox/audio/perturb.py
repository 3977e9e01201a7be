"""Random channels, rooms, noises and speakers for batches of log-mels.

In the log-mel domain a microphone is a curve added over bands, a noise is a sum of powers, a room a decay
over frames, a telephone a missing band, a vocal tract a warp of the band axis (VTLP, Jaitly & Hinton 2013),
and a speaking rate a warp of the time axis. That costs a hundredth of the training step that it feeds.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch.nn import functional as F

from metavox.audio.features import FLOOR
from metavox.config import FeatureConfig

LOG_FLOOR = math.log(FLOOR)
NEPERS_PER_DB = math.log(10) / 10  # log-mels are natural logarithms of power


class Perturb(Protocol):
    """Perturbs a batch: log-mels (batch, time, mel) and lengths (batch,) to the same."""

    def scaled(self, strength: float) -> "Perturb": ...

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator, /
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


@dataclass(frozen=True)
class Perturbation:
    """Ranges and probabilities, drawn independently for every item."""

    stretch: float = 0.25  # speaking rate between 1/(1+x) and 1+x
    warp: float = 0.15  # vocal-tract warp, share of the band axis
    tilt_db: float = 8.0  # smooth equalisation
    noise_chance: float = 0.7
    noise_snr_db: tuple[float, float] = (3.0, 45.0)
    reverberation_chance: float = 0.3
    reverberation_frames: float = 12.0
    bandlimit_chance: float = 0.4
    bandlimit_nepers: tuple[float, float] = (4.0, 14.0)  # how far the power outside the band falls
    mask_chance: float = 0.5
    mask_bands: int = 10
    mask_frames: int = 12

    def scaled(self, strength: float) -> "Perturbation":
        """The same perturbation weakened: 0 changes almost nothing, 1 is unchanged. A curriculum starts low."""
        low, high = self.noise_snr_db
        return replace(
            self,
            stretch=self.stretch * strength,
            warp=self.warp * strength,
            tilt_db=self.tilt_db * strength,
            noise_chance=self.noise_chance * strength,
            noise_snr_db=(high - (high - low) * (0.5 + 0.5 * strength), high),
            reverberation_chance=self.reverberation_chance * strength,
            bandlimit_chance=self.bandlimit_chance * strength,
            mask_chance=self.mask_chance * strength,
        )

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (batch, time, mel), lengths (batch,) -> the same, perturbed; lengths follow the speaking
        rate.
        """
        mels, lengths = self._warp(mels, lengths, generator)
        mels = self._reverberate(mels, generator)
        mels = mels + self._equalise(mels, generator)
        mels = self._noise(mels, lengths, generator)
        mels = self._bandlimit(mels, generator)
        mels = self._mask(mels, lengths, generator)
        inside = torch.arange(mels.shape[1])[None, :] < lengths[:, None]
        return mels.clamp_min(LOG_FLOOR) * inside.unsqueeze(2), lengths

    def _warp(
        self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch, time, bands = mels.shape
        rate = torch.exp(_uniform(batch, generator) * math.log1p(self.stretch))
        warp = _uniform(batch, generator) * self.warp
        stretched = (lengths * rate).round().long().clamp_min(8)
        # Not past the item's last frame: the padding behind it is zero, and zero is loud.
        t = torch.minimum(torch.arange(int(stretched.max())) / rate[:, None], lengths[:, None] - 1)
        grid_t = (2 * t + 1) / time - 1
        b = (2 * torch.arange(bands)[None, :] + 1) / bands - 1
        # Bends the middle of the axis and keeps both ends in place.
        grid_b = b + warp[:, None] * (1 - b.square())
        grid = torch.stack(
            torch.broadcast_tensors(grid_b[:, None, :], grid_t[:, :, None]), dim=-1
        )  # (batch, time', mel, 2) in (x = band, y = time) order
        warped = F.grid_sample(mels.unsqueeze(1), grid, padding_mode="border", align_corners=False)
        return warped.squeeze(1), stretched

    def _reverberate(self, mels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch = len(mels)
        chosen = torch.rand(batch, generator=generator) < self.reverberation_chance
        if not chosen.any():
            return mels
        decay = torch.rand(batch, 1, generator=generator) * self.reverberation_frames * 0.5 + 1.0
        level = torch.rand(batch, 1, generator=generator) * 0.4
        lag = torch.arange(1, 33)[None, :]
        tail = level * torch.exp(-lag / decay)
        kernel = torch.cat([torch.ones(batch, 1), tail], dim=1).flip(1)[chosen]
        power = mels[chosen].exp().permute(2, 0, 1)  # (mel, chosen, time)
        wet = F.conv1d(F.pad(power, (32, 0)), kernel.unsqueeze(1), groups=len(kernel))
        out = mels.clone()
        out[chosen] = wet.permute(1, 2, 0).clamp_min(FLOOR).log()
        return out

    def _equalise(self, mels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return _curves(len(mels), mels.shape[2], generator) * (self.tilt_db * NEPERS_PER_DB)

    def _noise(self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch, time, bands = mels.shape
        outside = torch.arange(time)[None, :] >= lengths[:, None]
        loudest = mels.mean(dim=2).masked_fill(outside, LOG_FLOOR).amax(dim=1)
        low, high = self.noise_snr_db
        snr = (torch.rand(batch, generator=generator) * (high - low) + low) * NEPERS_PER_DB
        snr = torch.where(torch.rand(batch, generator=generator) < self.noise_chance, snr, 100.0)
        spectrum = _curves(batch, bands, generator) * (10 * NEPERS_PER_DB)
        flicker = torch.randn(batch, time, bands, generator=generator) * 0.5
        noise = (loudest - snr)[:, None, None] + spectrum + flicker
        return torch.logaddexp(mels, noise)

    def _bandlimit(self, mels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        batch, _, bands = mels.shape
        chosen = torch.rand(batch, generator=generator) < self.bandlimit_chance
        top = (bands * (0.55 + 0.45 * torch.rand(batch, generator=generator))).long()
        bottom = (torch.rand(batch, generator=generator) * bands * 0.12).long()
        band = torch.arange(bands)[None, :]
        outside = chosen[:, None] & ((band >= top[:, None]) | (band < bottom[:, None]))
        low, high = self.bandlimit_nepers
        depth = torch.rand(batch, 1, 1, generator=generator) * (high - low) + low
        return torch.where(outside[:, None, :], mels - depth, mels)

    def _mask(self, mels: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """SpecAugment (Park et al. 2019): one mask per axis, at most a fifth of the item's frames."""
        batch, time, bands = mels.shape
        quiet = mels.amin(dim=(1, 2), keepdim=True)
        for size, limit, axis in (
            (bands, torch.full((batch,), self.mask_bands), 2),
            (time, (lengths // 5).clamp_max(self.mask_frames), 1),
        ):
            extent = size if axis == 2 else lengths
            chosen = torch.rand(batch, generator=generator) < self.mask_chance
            width = (torch.rand(batch, generator=generator) * limit * chosen).long()
            start = (torch.rand(batch, generator=generator) * (extent - width)).long()
            index = torch.arange(size)[None, :]
            masked = (index >= start[:, None]) & (index < (start + width)[:, None])
            mels = torch.where(masked.unsqueeze(3 - axis), quiet, mels)
        return mels


@dataclass(frozen=True)
class SampleGain:
    """For features that are samples: random gain and white noise."""

    gain_db: float = 10.0
    noise_snr_db: tuple[float, float] = (15.0, 45.0)

    def scaled(self, strength: float) -> "SampleGain":
        low, high = self.noise_snr_db
        return SampleGain(self.gain_db * strength, (high - (high - low) * strength, high))

    def __call__(
        self, samples: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples (batch, time, hop), lengths (batch,) in frames -> the same."""
        batch = len(samples)
        inside = (torch.arange(samples.shape[1])[None, :] < lengths[:, None]).unsqueeze(2)
        gain = 10 ** (_uniform(batch, generator) * self.gain_db / 20)
        low, high = self.noise_snr_db
        snr_db = torch.rand(batch, generator=generator) * (high - low) + low
        power = samples.square().sum(dim=(1, 2)) / (lengths * samples.shape[2]).clamp_min(1)
        noise = (
            torch.randn(samples.shape, generator=generator)
            * (power.sqrt() * 10 ** (-snr_db / 20))[:, None, None]
        )
        return (samples + noise) * gain[:, None, None] * inside, lengths


@dataclass(frozen=True)
class LogMelsOnly:
    """Perturbs the log-mels of frames that hold extra columns; these follow the speaking rate but keep their
    values.

    Each frame takes the columns of the nearest original frame, because nothing lies between voiced and
    unvoiced.
    """

    of: Perturb
    mels: int

    def scaled(self, strength: float) -> "LogMelsOnly":
        return replace(self, of=self.of.scaled(strength))

    def __call__(
        self, features: torch.Tensor, lengths: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (batch, time, width), lengths (batch,) -> the same, perturbed."""
        mels, new_lengths = self.of(features[..., : self.mels], lengths, generator)
        frame = torch.arange(mels.shape[1])[None, :]
        nearest = (frame * (lengths / new_lengths)[:, None]).round().long()
        nearest = torch.minimum(nearest, lengths[:, None] - 1).clamp_min(0)
        extras = features[..., self.mels :]
        extras = extras.gather(1, nearest.unsqueeze(2).expand(-1, -1, extras.shape[2]))
        return torch.cat([mels, extras * (frame < new_lengths[:, None]).unsqueeze(2)], dim=2), new_lengths


def for_features(perturbation: Perturb, features: FeatureConfig) -> Perturb:
    """Adapt a perturbation of log-mels to stored features: samples get `SampleGain`, and extra columns follow
    the frames.
    """
    if features.kind == "waveform":
        return SampleGain()
    return LogMelsOnly(perturbation, features.mels) if features.extras else perturbation


def _uniform(batch: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(batch, generator=generator) * 2 - 1


def _curves(batch: int, bands: int, generator: torch.Generator) -> torch.Tensor:
    """Smooth random curves over bands (batch, 1, mel), about one in size."""
    orders = torch.arange(1, 6)
    basis = torch.cos(math.pi * orders[:, None] * (torch.arange(bands) + 0.5)[None, :] / bands)
    weights = torch.randn(batch, len(orders), generator=generator) / orders.sqrt()
    return (weights @ basis).unsqueeze(1) * 0.7
