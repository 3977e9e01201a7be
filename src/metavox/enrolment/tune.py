"""Fine-tuning of the word embedding (pooling and projection) to a vocabulary, if held-out clips improve.

The encoder frames are computed only once, so a step takes milliseconds.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from metavox.audio.perturb import for_features
from metavox.enrolment.prototypes import VIEWS, learn_words
from metavox.recognisers.conformer import LOGIT_SCALE, Network, WordEmbedding, frame_mask, pad

STEPS, LEARNING_RATE, L2_SP_WEIGHT = 20, 3e-4, 1.0
PERTURBED_VIEWS = 2
FOLDS = 2  # each requires a fine-tuning
BATCH = 32

View = tuple[torch.Tensor, torch.Tensor]  # frames (clips, time, dim), mask (clips, time)


def tune_embedding(
    model: Network,
    mels: Sequence[torch.Tensor],
    labels: torch.Tensor,
    words: int,
    folds: np.ndarray,
    seed: int,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Fine-tune the word embedding on log-mels (frames, mel) with labels (clips,) and folds (clips,).

    Returns the changes of the `word.` weights and the embeddings (clips, 1, embedding) with these changes. There are no
    changes if fewer or as many held-out clips are recognised with them.
    """
    views = _views(model, mels, seed)
    gain = 0
    for fold in range(FOLDS):
        held_out = torch.from_numpy((folds >= 0) & (folds % FOLDS == fold))
        if held_out.any() and len(set(labels[~held_out].tolist())) == words:
            for word, sign in ((model.word, -1), (_tuned(model, views, labels, words, ~held_out), 1)):
                gain += sign * _correct(model, word, views[0], labels, words, held_out)
    word = (
        _tuned(model, views, labels, words, torch.ones(len(labels), dtype=torch.bool))
        if gain > 0
        else model.word
    )
    with torch.inference_mode():
        embeddings = _embed(model, word, views[0])[:, None].clone()
    if gain <= 0:
        return {}, embeddings
    initial_weights = dict(model.word.named_parameters())
    return {
        f"word.{n}": (w - initial_weights[n]).detach().clone() for n, w in word.named_parameters()
    }, embeddings


def _tuned(
    model: Network, views: Sequence[View], labels: torch.Tensor, words: int, selected: torch.Tensor
) -> WordEmbedding:
    """A copy of the word embedding, trained to separate the words of the selected clips, with an L2-SP penalty."""
    word = copy.deepcopy(model.word).eval().requires_grad_(True)
    with torch.no_grad():
        embeddings = _embed(model, word, views[0])[selected]
    head = (
        learn_words(embeddings[:, None], labels[selected], words, "head").weight.clone().requires_grad_(True)
    )
    initial_weights = [weight.detach().clone() for weight in word.parameters()]
    optimizer = torch.optim.Adam(
        [{"params": word.parameters(), "lr": LEARNING_RATE}, {"params": [head], "lr": 0.01}]
    )
    for step in range(STEPS):
        frames, mask = views[step % len(views)]
        logits = (
            LOGIT_SCALE * _embed(model, word, (frames[selected], mask[selected])) @ F.normalize(head, dim=1).T
        )
        distances = [
            (weight - initial).square().sum()
            for weight, initial in zip(word.parameters(), initial_weights, strict=True)
        ]
        loss = F.cross_entropy(logits, labels[selected]) + L2_SP_WEIGHT * torch.stack(distances).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return word


def _correct(
    model: Network,
    word: WordEmbedding,
    view: View,
    labels: torch.Tensor,
    words: int,
    held_out: torch.Tensor,
) -> int:
    """How many held-out clips are recognised by a head learned from the other clips."""
    with torch.no_grad():
        embeddings = _embed(model, word, view)
    head = learn_words(embeddings[~held_out][:, None], labels[~held_out], words, "head")
    return int((head.logits(embeddings[held_out]).argmax(dim=1) == labels[held_out]).sum())


def _embed(model: Network, word: WordEmbedding, view: View) -> torch.Tensor:
    embeddings = word(*view)
    return model.cohort(embeddings) if model.cohort is not None else embeddings


def _views(model: Network, mels: Sequence[torch.Tensor], seed: int) -> list[View]:
    """Encoder frames of the clips and of mild perturbations of them, the input of the word embedding."""
    random = torch.Generator().manual_seed(seed)
    perturb = for_features(VIEWS, model.config.features)
    out = []
    for view in range(1 + PERTURBED_VIEWS):
        rows: list[torch.Tensor] = []
        with torch.no_grad():
            for start in range(0, len(mels), BATCH):
                batch, lengths = pad(list(mels[start : start + BATCH]))
                inputs = perturb(batch, lengths, random) if view else (batch, lengths)
                frames, clip_lengths = model.encoder.acoustic(*inputs)
                rows += [clip[:n] for clip, n in zip(frames, clip_lengths, strict=True)]
        frames, lengths = pad(rows)
        out.append((frames, frame_mask(lengths, frames.shape[1])))
    return out
