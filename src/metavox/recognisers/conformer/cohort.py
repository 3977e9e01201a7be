"""The cohort of score normalisation: embeddings of many words that nobody enrolled, stored with the model.

They show in which directions a word varies between speakers, and how near a clip is to words in general.
"""

import torch
from torch import nn
from torch.nn import functional as F

NEAREST = 100


class Cohort(nn.Module):
    """Unit vectors `embeddings` (count, embedding) in the whitened space that `forward` maps to by `mean` and
    `whiten`.
    """

    embeddings: torch.Tensor
    whiten: torch.Tensor
    mean: torch.Tensor

    def __init__(self, count: int, embedding: int):
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(count, embedding, dtype=torch.float16))
        self.register_buffer("whiten", torch.eye(embedding))
        self.register_buffer("mean", torch.zeros(embedding))
        self._own_nearest: tuple[int, torch.Tensor] | None = None

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Map unit vectors (..., embedding) to unit vectors in which within-word variation counts for less.

        Within-class covariance normalisation (Hatch, Kajarekar, Stolcke 2006).
        """
        return F.normalize((embeddings - self.mean) @ self.whiten, dim=-1)

    def nearest(self, embeddings: torch.Tensor, skip: int = 0) -> torch.Tensor:
        """Unit vectors (clips, embedding) -> the mean cosine to the nearest of the cohort (clips,).

        Subtracting it from a clip's cosines makes one threshold fit clean and noisy clips (adaptive T-norm,
        Sturim & Reynolds 2005, without the division). `skip` leaves out the nearest ones: each clip of the
        cohort is its own nearest.
        """
        count = min(NEAREST + skip, len(self.embeddings))
        cosines = (embeddings @ self.embeddings.float().T).topk(count, dim=1).values
        return cosines[:, skip:].mean(dim=1)

    def own_nearest(self) -> torch.Tensor:
        """`nearest` of the cohort itself (count,), with each clip left out; computed once."""
        version = self.embeddings._version
        if self._own_nearest is None or self._own_nearest[0] != version:
            self._own_nearest = version, self.nearest(self.embeddings.float(), skip=1)
        return self._own_nearest[1]


def within_class_whitening(
    embeddings: torch.Tensor, labels: torch.Tensor, shrink: float = 0.1
) -> torch.Tensor:
    """Centred vectors (clips, embedding), labels (clips,) -> W (embedding, embedding), with W W the inverse
    of the within-class covariance.

    A share of `shrink` of the covariance is replaced by its mean variance. Classes with one clip do not
    contribute.
    """
    count = torch.bincount(labels)
    sums = torch.zeros(len(count), embeddings.shape[1]).index_add_(0, labels, embeddings)
    kept = count[labels] > 1
    deviations = (embeddings - sums[labels] / count[labels, None])[kept]
    covariance = deviations.T @ deviations / max(1, int((count - 1).clamp_min(0).sum()))
    mean_variance = covariance.diagonal().mean().clamp_min(1e-8)
    values, vectors = torch.linalg.eigh(
        (1 - shrink) * covariance + shrink * mean_variance * torch.eye(len(covariance))
    )
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T
