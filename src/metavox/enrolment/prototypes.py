"""New words from a few clips: class prototypes (Snell et al. 2017), and a head that is tuned from them.

Both work on word embeddings, which never change, so a word is enrolled in milliseconds and a thousand words
are a thousand vectors.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from metavox.audio.features import extract, make_transform
from metavox.audio.perturb import Perturbation, suited
from metavox.errors import UserError
from metavox.recognisers.conformer import LOGIT_SCALE, Network, pad

Method = Literal["prototypes", "head"]
PULL = 1.0  # of a head towards its prototypes
BATCH = 64

# Gentle: a clip that teaches a word must still be that word.
VIEWS = Perturbation(
    stretch=0.12, warp=0.08, tilt_db=5.0, noise_chance=0.7, noise_snr_db=(12.0, 40.0), mask_chance=0.0
)


@dataclass(frozen=True)
class WordHead:
    """`weight` (words, embedding): the logit of a word is LOGIT_SCALE times the dot product with its row."""

    weight: torch.Tensor

    def logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Unit embeddings (batch, embedding) -> (batch, words)."""
        return LOGIT_SCALE * embeddings @ self.weight.T


def embed_clips(model: Network, clips: list[np.ndarray], views: int = 0, seed: int = 0) -> torch.Tensor:
    """Samples at the model's rate -> embeddings (clips, 1 + views, embedding).

    The first view is the clip itself, the others are gentle perturbations of it.
    """
    transform = make_transform(model.config.features)
    return embed_mels(model, [extract(clip, transform) for clip in clips], views, seed)


def embed_mels(model: Network, mels: list[torch.Tensor], views: int = 0, seed: int = 0) -> torch.Tensor:
    """Log-mels (frames, mel) each -> unit embeddings (clips, 1 + views, embedding)."""
    if any(len(m) == 0 for m in mels):
        raise UserError("a clip without a frame cannot be embedded; expected at least 0.1 s of speech")
    out = torch.empty(len(mels), 1 + views, model.config.embedding)
    random = torch.Generator().manual_seed(seed)
    perturb = suited(VIEWS, model.config.features)
    order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch, lengths = pad([mels[i] for i in chosen])
            out[chosen, 0] = model.embed(batch, lengths)
            for view in range(views):
                out[chosen, 1 + view] = model.embed(*perturb(batch, lengths, random))
    return out


def learn_words(
    support: torch.Tensor, labels: torch.Tensor, words: int, method: Method = "prototypes", steps: int = 40
) -> WordHead:
    """Support embeddings (clips, views, embedding), labels (clips,) in 0..words-1 -> a head for those words.

    `prototypes` is the mean of a word's views; `head` starts there and lowers the cross-entropy of the
    support set, pulled back towards the prototypes.
    """
    return WordHead(learn_heads(support[None], labels[None], words, method, steps)[0])


def learn_heads(
    support: torch.Tensor, labels: torch.Tensor, words: int, method: Method = "prototypes", steps: int = 40
) -> torch.Tensor:
    """As `learn_words`, of many problems of one shape at once: support (problems, clips, views, embedding), labels
    (problems, clips) -> the weights of their heads (problems, words, embedding).

    The loss is a sum over problems that share no weight, so that each is solved as if it were alone.
    """
    given = support.flatten(1, 2)
    wanted = labels.repeat_interleave(support.shape[2], dim=1)
    prototypes = F.normalize(_means(given, wanted, words), dim=2)
    if method == "prototypes":
        return prototypes
    weight = prototypes.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        # Words before items: on a CPU their softmax is twenty times as fast.
        logits = LOGIT_SCALE * weight @ given.transpose(1, 2)
        misses = F.cross_entropy(logits, wanted, reduction="sum") / wanted.shape[1]
        away = (weight - prototypes).square().sum() / words
        (misses + PULL * away).backward()
        optimizer.step()
    return weight.detach()


def _means(values: torch.Tensor, labels: torch.Tensor, groups: int) -> torch.Tensor:
    """Values (problems, items, dim), labels (problems, items) -> the mean of each group (problems, groups, dim)."""
    one_hot = F.one_hot(labels, groups).float()
    return one_hot.transpose(1, 2) @ values / one_hot.sum(dim=1).clamp_min(1)[:, :, None]
