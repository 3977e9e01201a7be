"""What a recording says of its room, line and noise, and little of its words: how loud each band is, and how it falls.

The discriminator hears nothing else, the generator begins from it, and the distances are taken in it.
"""

import numpy as np
import scipy.linalg
import torch

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles over time
LAG = 4  # frames over which a level falls


def levels(mels: torch.Tensor) -> torch.Tensor:
    """Log-mels (batch, time, mel) -> (batch, 5, mel), from the floor of each band to its loud frames; in nepers."""
    return _quantiles(mels, LEVELS)


def movements(mels: torch.Tensor) -> torch.Tensor:
    """Log-mels (batch, time, mel) -> (batch, 4, mel): how fast a band flickers, falls and rises; in nepers.

    A room slows the fall, a steady noise stops both, a loss of packets quickens them.
    """
    step = _quantiles(mels[:, 1:] - mels[:, :-1], (0.05, 0.95))
    fall = _quantiles(mels[:, LAG:] - mels[:, :-LAG], (0.05, 0.95))
    return torch.cat([step, fall], dim=1)


def statistics(mels: torch.Tensor) -> torch.Tensor:
    """Log-mels (batch, time, mel) -> (batch, 9 * mel), with gradients. `time` must be over 4 frames."""
    return torch.cat([levels(mels), movements(mels)], dim=1).flatten(1)


def _quantiles(mels: torch.Tensor, shares: tuple[float, ...]) -> torch.Tensor:
    ordered = mels.sort(dim=1).values
    at = torch.tensor(shares, device=mels.device) * (mels.shape[1] - 1)
    low, part = at.floor().long(), (at - at.floor())[None, :, None]
    high = (low + 1).clamp_max(mels.shape[1] - 1)
    return torch.lerp(ordered[:, low], ordered[:, high], part)


def distances(a: torch.Tensor, b: torch.Tensor) -> dict[str, float]:
    """How far two sets of clips (clips, time, mel) are apart, in square nepers.

    `spectrum`: of the means over time, relative to the loudest band. `floor`: of what is left between words, relative
    to the loud frames. `movement`: of how bands fall and flicker.
    """

    def spectrum(mels: torch.Tensor) -> torch.Tensor:
        mean = mels.mean(dim=1)
        return mean - mean.amax(dim=1, keepdim=True)

    def floor(mels: torch.Tensor) -> torch.Tensor:
        found = levels(mels)
        return found[:, 0] - found[:, -1].amax(dim=1, keepdim=True)

    def movement(mels: torch.Tensor) -> torch.Tensor:
        return movements(mels).flatten(1)

    return {f.__name__: frechet(f(a), f(b)) for f in (spectrum, floor, movement)}


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Frechet distance between the normal distributions of two sets (items, numbers) (Dowson & Landau 1982)."""
    x, y = a.double().numpy(), b.double().numpy()
    ridge = 1e-3 * np.eye(x.shape[1])
    cx, cy = np.cov(x.T) + ridge, np.cov(y.T) + ridge
    # The square root of a product of two covariances has the trace of this one, which is symmetric.
    half = scipy.linalg.cholesky(cx, lower=True)
    root = np.sqrt(np.clip(scipy.linalg.eigvalsh(half.T @ cy @ half), 0, None)).sum()
    return float(np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.trace(cx + cy) - 2 * root)


def content_loss(clean: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """One minus the correlation over time, band by band, where the clean utterance is loud: (batch, time, mel).

    A curve over bands changes nothing here; other words would.
    """
    weight = ((clean - clean.amax(dim=(1, 2), keepdim=True)) / 4.0).exp()
    a = clean - (weight * clean).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    b = other - (weight * other).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    dot = (weight * a * b).sum(dim=(1, 2))
    size = (weight * a.square()).sum(dim=(1, 2)) * (weight * b.square()).sum(dim=(1, 2))
    return (1 - dot / size.clamp_min(1e-6).sqrt()).mean()
