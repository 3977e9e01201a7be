"""Word vectors from a few clips: class prototypes (Snell et al. 2017), and a head tuned from them.

Both use fixed word embeddings, so enrolling a word takes milliseconds, and a thousand words are a thousand vectors.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from metavox.audio.features import extract, make_transform
from metavox.audio.perturb import Perturbation, for_features
from metavox.errors import UserError
from metavox.recognisers.conformer import LOGIT_SCALE, Network, pad

Method = Literal["prototypes", "head"]
PROTOTYPE_WEIGHT = 1.0  # of the squared distance of a head from its prototypes
BATCH = 64

# Mild, because a perturbed clip must still be recognisable as its word.
VIEWS = Perturbation(
    stretch=0.12, warp=0.08, tilt_db=5.0, noise_chance=0.7, noise_snr_db=(12.0, 40.0), mask_chance=0.0
)


@dataclass(frozen=True)
class WordHead:
    """`weight` is (words, embedding); the logit of a word is LOGIT_SCALE times the dot product with its row."""

    weight: torch.Tensor

    def logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits (batch, words) of unit embeddings (batch, embedding)."""
        return LOGIT_SCALE * embeddings @ self.weight.T


def embed_clips(model: Network, clips: list[np.ndarray], views: int = 0, seed: int = 0) -> torch.Tensor:
    """Unit embeddings (clips, 1 + views, embedding) of clips at the model's sample rate.

    The first view is the clip itself, the others are mild perturbations of it. Raises UserError for a clip without
    frames.
    """
    transform = make_transform(model.config.features)
    return embed_mels(model, [extract(clip, transform) for clip in clips], views, seed)


def embed_mels(model: Network, mels: list[torch.Tensor], views: int = 0, seed: int = 0) -> torch.Tensor:
    """As `embed_clips`, for log-mels (frames, mel)."""
    if any(len(m) == 0 for m in mels):
        raise UserError(
            "a clip without a frame cannot be embedded; expected at least 0.1 s of speech; record the clip again"
        )
    out = torch.empty(len(mels), 1 + views, model.config.embedding)
    random = torch.Generator().manual_seed(seed)
    perturb = for_features(VIEWS, model.config.features)
    order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch, lengths = pad([mels[i] for i in rows])
            out[rows, 0] = model.embed(batch, lengths)
            for view in range(views):
                out[rows, 1 + view] = model.embed(*perturb(batch, lengths, random))
    return out


def learn_words(
    support: torch.Tensor, labels: torch.Tensor, words: int, method: Method = "prototypes", steps: int = 40
) -> WordHead:
    """Learn a head from support embeddings (clips, views, embedding) with labels (clips,) in 0..words-1.

    `prototypes` are the means of each word's views. `head` starts there and minimises the cross-entropy on the support
    set, with a penalty on the distance from the prototypes.
    """
    return WordHead(learn_heads(support[None], labels[None], words, method, steps)[0])


def learn_heads(
    support: torch.Tensor, labels: torch.Tensor, words: int, method: Method = "prototypes", steps: int = 40
) -> torch.Tensor:
    """As `learn_words`, for many problems of the same shape at once.

    `support` is (problems, clips, views, embedding) and `labels` (problems, clips); returns the weights of the heads
    (problems, words, embedding). The loss is a sum over problems without shared weights, so they are independent.
    """
    items = support.flatten(1, 2)
    targets = labels.repeat_interleave(support.shape[2], dim=1)
    prototypes = F.normalize(_means(items, targets, words), dim=2)
    if method == "prototypes":
        return prototypes
    weight = prototypes.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        # With words before items, the softmax is twenty times faster on a CPU.
        logits = LOGIT_SCALE * weight @ items.transpose(1, 2)
        loss = F.cross_entropy(logits, targets, reduction="sum") / targets.shape[1]
        distance = (weight - prototypes).square().sum() / words
        (loss + PROTOTYPE_WEIGHT * distance).backward()
        optimizer.step()
    return weight.detach()


def _means(values: torch.Tensor, labels: torch.Tensor, groups: int) -> torch.Tensor:
    """Means (problems, groups, dim) of values (problems, items, dim) with labels (problems, items)."""
    one_hot = F.one_hot(labels, groups).float()
    return one_hot.transpose(1, 2) @ values / one_hot.sum(dim=1).clamp_min(1)[:, :, None]
