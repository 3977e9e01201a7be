"""The cohort of score normalisation: embeddings of many words that nobody enrolled, kept with the model.

They say in which directions one word varies from speaker to speaker, and how near a clip is to words in general.
"""

import torch
from torch import nn
from torch.nn import functional as F

NEAREST = 100


class Cohort(nn.Module):
    """`embeddings` (count, embedding), unit vectors in the space that `forward` maps to; `whiten`, `mean` define it."""

    embeddings: torch.Tensor
    whiten: torch.Tensor
    mean: torch.Tensor

    def __init__(self, count: int, embedding: int):
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(count, embedding, dtype=torch.float16))
        self.register_buffer("whiten", torch.eye(embedding))
        self.register_buffer("mean", torch.zeros(embedding))
        self._own: tuple[int, torch.Tensor] | None = None

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Unit vectors (..., embedding) to unit vectors: what varies within a word counts for less.

        Within-class covariance normalisation (Hatch, Kajarekar, Stolcke 2006).
        """
        return F.normalize((embeddings - self.mean) @ self.whiten, dim=-1)

    def nearest(self, embeddings: torch.Tensor, skip: int = 0) -> torch.Tensor:
        """Unit vectors (clips, embedding) -> (clips,): the mean cosine to the nearest of the cohort.

        Taken off a clip's cosines, it makes one threshold fit clean clips and noisy ones (adaptive T-norm,
        Sturim & Reynolds 2005, without the division). `skip` of the nearest are left out: of the cohort itself,
        each clip is its own nearest.
        """
        count = min(NEAREST + skip, len(self.embeddings))
        found = (embeddings @ self.embeddings.float().T).topk(count, dim=1).values
        return found[:, skip:].mean(dim=1)

    def own_nearest(self) -> torch.Tensor:
        """(count,): `nearest` of the cohort itself, each clip left out; computed once."""
        version = self.embeddings._version
        if self._own is None or self._own[0] != version:
            self._own = version, self.nearest(self.embeddings.float(), skip=1)
        return self._own[1]


def within_class_whitening(
    embeddings: torch.Tensor, labels: torch.Tensor, shrink: float = 0.1
) -> torch.Tensor:
    """Centred vectors (clips, embedding), labels (clips,) -> W (embedding, embedding): W W = the inverse of their
    covariance within classes, of which `shrink` is replaced by its mean variance. Classes of one clip say nothing."""
    count = torch.bincount(labels)
    sums = torch.zeros(len(count), embeddings.shape[1]).index_add_(0, labels, embeddings)
    kept = count[labels] > 1
    apart = (embeddings - sums[labels] / count[labels, None])[kept]
    covariance = apart.T @ apart / max(1, int((count - 1).clamp_min(0).sum()))
    mean_variance = covariance.diagonal().mean().clamp_min(1e-8)
    values, vectors = torch.linalg.eigh(
        (1 - shrink) * covariance + shrink * mean_variance * torch.eye(len(covariance))
    )
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T
