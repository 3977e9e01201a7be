"""Fine-tuning for a vocabulary: the pooling over frames and the projection move, where held-out clips gain by it.

The frames below them are computed once, so that a step takes milliseconds.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from metavox.audio.perturb import suited
from metavox.enrolment.prototypes import VIEWS, learn_words
from metavox.recognisers.conformer import LOGIT_SCALE, Network, WordEmbedding, frame_mask, pad

STEPS, RATE, PULL = 20, 3e-4, 1.0
PERTURBED = 2
FOLDS = 2  # each costs a fine-tuning
BATCH = 32

View = tuple[torch.Tensor, torch.Tensor]  # frames (clips, time, dim), mask (clips, time)


def tune_embedding(
    model: Network,
    mels: Sequence[torch.Tensor],
    labels: torch.Tensor,
    words: int,
    number: np.ndarray,
    seed: int,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Log-mels (frames, mel), labels (clips,), each clip's fold -> differences of `word.` weights, and the clips'
    embeddings (clips, 1, embedding) under them. No differences where held-out clips do not gain."""
    views = _views(model, mels, seed)
    gain = 0
    for fold in range(FOLDS):
        outside = torch.from_numpy((number >= 0) & (number % FOLDS == fold))
        if outside.any() and len(set(labels[~outside].tolist())) == words:
            for word, sign in ((model.word, -1), (_tuned(model, views, labels, words, ~outside), 1)):
                gain += sign * _right(model, word, views[0], labels, words, outside)
    word = (
        _tuned(model, views, labels, words, torch.ones(len(labels), dtype=torch.bool))
        if gain > 0
        else model.word
    )
    with torch.inference_mode():
        embedded = _embed(model, word, views[0])[:, None].clone()
    if gain <= 0:
        return {}, embedded
    before = dict(model.word.named_parameters())
    return {f"word.{n}": (w - before[n]).detach().clone() for n, w in word.named_parameters()}, embedded


def _tuned(
    model: Network, views: Sequence[View], labels: torch.Tensor, words: int, chosen: torch.Tensor
) -> WordEmbedding:
    """A copy of the word embedding that tells the chosen clips' words apart, not far from where it was (L2-SP)."""
    word = copy.deepcopy(model.word).eval().requires_grad_(True)
    with torch.no_grad():
        embedded = _embed(model, word, views[0])[chosen]
    head = learn_words(embedded[:, None], labels[chosen], words, "head").weight.clone().requires_grad_(True)
    before = [weight.detach().clone() for weight in word.parameters()]
    optimizer = torch.optim.Adam([{"params": word.parameters(), "lr": RATE}, {"params": [head], "lr": 0.01}])
    for step in range(STEPS):
        frames, mask = views[step % len(views)]
        logits = (
            LOGIT_SCALE * _embed(model, word, (frames[chosen], mask[chosen])) @ F.normalize(head, dim=1).T
        )
        apart = [(now - then).square().sum() for now, then in zip(word.parameters(), before, strict=True)]
        loss = F.cross_entropy(logits, labels[chosen]) + PULL * torch.stack(apart).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return word


def _right(
    model: Network,
    word: WordEmbedding,
    view: View,
    labels: torch.Tensor,
    words: int,
    outside: torch.Tensor,
) -> int:
    """How many of the clips `outside` a head names that the others taught."""
    with torch.no_grad():
        embedded = _embed(model, word, view)
    head = learn_words(embedded[~outside][:, None], labels[~outside], words, "head")
    return int((head.logits(embedded[outside]).argmax(dim=1) == labels[outside]).sum())


def _embed(model: Network, word: WordEmbedding, view: View) -> torch.Tensor:
    embedded = word(*view)
    return model.background(embedded) if model.background is not None else embedded


def _views(model: Network, mels: Sequence[torch.Tensor], seed: int) -> list[View]:
    """The clips and gentle perturbations of them, up to where the word embedding begins."""
    random = torch.Generator().manual_seed(seed)
    perturb = suited(VIEWS, model.config.features)
    out = []
    for number in range(1 + PERTURBED):
        parts: list[torch.Tensor] = []
        with torch.no_grad():
            for start in range(0, len(mels), BATCH):
                batch, lengths = pad(list(mels[start : start + BATCH]))
                given = perturb(batch, lengths, random) if number else (batch, lengths)
                frames, kept = model.encoder.acoustic(*given)
                parts += [row[:n] for row, n in zip(frames, kept, strict=True)]
        frames, lengths = pad(parts)
        out.append((frames, frame_mask(lengths, frames.shape[1])))
    return out
