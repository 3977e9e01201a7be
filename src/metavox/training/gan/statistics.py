"""Statistics of a recording that depend on its room, line and noise, and little on its words.

They describe the level of each band and how it changes over time. The discriminator sees only these statistics, the
generator is initialised from them, and distances between sets of recordings are measured in them.
"""

import numpy as np
import scipy.linalg
import torch

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles over time
LAG = 4  # frames over which the decay of a level is measured


def levels(mels: torch.Tensor) -> torch.Tensor:
    """Quantiles over time (batch, 5, mel) of log-mels (batch, time, mel), from noise floor to loud frames; in nepers."""
    return _quantiles(mels, LEVELS)


def movements(mels: torch.Tensor) -> torch.Tensor:
    """How fast each band falls and rises (batch, 4, mel), of log-mels (batch, time, mel); in nepers.

    The values are the 5% and 95% quantiles of the change over one frame and over `LAG` frames. Reverberation slows the
    decay, steady noise removes both directions of change, and packet loss makes both faster.
    """
    step = _quantiles(mels[:, 1:] - mels[:, :-1], (0.05, 0.95))
    fall = _quantiles(mels[:, LAG:] - mels[:, :-LAG], (0.05, 0.95))
    return torch.cat([step, fall], dim=1)


def statistics(mels: torch.Tensor) -> torch.Tensor:
    """Levels and movements (batch, 9 * mel) of log-mels (batch, time, mel), differentiable. `time` must exceed 4 frames."""
    return torch.cat([levels(mels), movements(mels)], dim=1).flatten(1)


def _quantiles(mels: torch.Tensor, shares: tuple[float, ...]) -> torch.Tensor:
    ordered = mels.sort(dim=1).values
    positions = torch.tensor(shares, device=mels.device) * (mels.shape[1] - 1)
    low, fraction = positions.floor().long(), (positions - positions.floor())[None, :, None]
    high = (low + 1).clamp_max(mels.shape[1] - 1)
    return torch.lerp(ordered[:, low], ordered[:, high], fraction)


def distances(a: torch.Tensor, b: torch.Tensor) -> dict[str, float]:
    """Fréchet distances between two sets of clips (clips, time, mel), in square nepers.

    `spectrum` compares means over time relative to the loudest band, `floor` the noise floor relative to the loud
    frames, and `movement` how bands rise and fall.
    """

    def spectrum(mels: torch.Tensor) -> torch.Tensor:
        mean = mels.mean(dim=1)
        return mean - mean.amax(dim=1, keepdim=True)

    def floor(mels: torch.Tensor) -> torch.Tensor:
        band_levels = levels(mels)
        return band_levels[:, 0] - band_levels[:, -1].amax(dim=1, keepdim=True)

    def movement(mels: torch.Tensor) -> torch.Tensor:
        return movements(mels).flatten(1)

    return {f.__name__: frechet(f(a), f(b)) for f in (spectrum, floor, movement)}


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Fréchet distance between normal distributions fitted to two sets (items, dim) (Dowson & Landau 1982)."""
    x, y = a.double().numpy(), b.double().numpy()
    ridge = 1e-3 * np.eye(x.shape[1])
    cx, cy = np.cov(x.T) + ridge, np.cov(y.T) + ridge
    # The square root of the product of two covariances has the same trace as the root of this symmetric matrix.
    half = scipy.linalg.cholesky(cx, lower=True)
    root = np.sqrt(np.clip(scipy.linalg.eigvalsh(half.T @ cy @ half), 0, None)).sum()
    return float(np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.trace(cx + cy) - 2 * root)


def content_loss(clean: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """One minus the correlation over time in each band, weighted towards loud frames of the clean utterance.

    Both inputs are (batch, time, mel). A different frequency response leaves the loss unchanged; other words raise it.
    """
    weight = ((clean - clean.amax(dim=(1, 2), keepdim=True)) / 4.0).exp()
    a = clean - (weight * clean).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    b = other - (weight * other).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    dot = (weight * a * b).sum(dim=(1, 2))
    size = (weight * a.square()).sum(dim=(1, 2)) * (weight * b.square()).sum(dim=(1, 2))
    return (1 - dot / size.clamp_min(1e-6).sqrt()).mean()
