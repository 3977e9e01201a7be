"""Prototypes and tuned heads from a few clips."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metavox.enrolment.prototypes import (
    LOGIT_SCALE,
    Method,
    WordHead,
    embed_clips,
    embed_mels,
    learn_heads,
    learn_words,
)
from metavox.errors import UserError
from metavox.recognisers.conformer.network import Network


def clouds(words: int, clips: int, spread: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors around random centres: (words * clips, 2 views, 16) and their labels."""
    random = torch.Generator().manual_seed(7)
    centres = F.normalize(torch.randn(words, 16, generator=random), dim=1)
    random.manual_seed(seed)
    labels = torch.arange(words).repeat_interleave(clips)
    noise = spread * torch.randn(len(labels), 2, 16, generator=random)
    return F.normalize(centres[labels][:, None] + noise, dim=2), labels


def accuracy(head: WordHead, queries: torch.Tensor, labels: torch.Tensor) -> float:
    return float((head.logits(queries[:, 0]).argmax(dim=1) == labels).float().mean())


def test_prototypes_are_normalised_means_over_clips_and_views() -> None:
    support, labels = clouds(3, 4, 0.3)
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    head = learn_words(support[shuffled], labels[shuffled], 3)
    for word in range(3):
        mean = support[labels == word].flatten(0, 1).mean(dim=0)
        torch.testing.assert_close(head.weight[word], mean / mean.norm())
    torch.testing.assert_close(head.logits(support[:, 0]), LOGIT_SCALE * support[:, 0] @ head.weight.T)


@pytest.mark.parametrize("seed", range(5))
def test_the_tuned_head_is_no_worse_on_separable_words(seed: int) -> None:
    support, labels = clouds(8, 3, 0.1, seed)
    queries, query_labels = clouds(8, 10, 0.1, seed + 100)
    prototypes, tuned = (
        accuracy(learn_words(support, labels, 8, method), queries, query_labels)
        for method in ("prototypes", "head")
    )
    assert prototypes > 0.9
    assert tuned >= prototypes - 0.02


def test_the_tuned_head_fits_its_support_better() -> None:
    support, labels = clouds(8, 5, 0.35)
    flat, repeated = support.flatten(0, 1), labels.repeat_interleave(2)
    losses = [
        float(F.cross_entropy(learn_words(support, labels, 8, m).logits(flat), repeated))
        for m in ("prototypes", "head")
    ]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("method", ["prototypes", "head"])
def test_one_example_of_each_word_is_enough(method: Method) -> None:
    support, labels = clouds(5, 1, 0.1)
    head = learn_words(support[:, :1], labels, 5, method)
    assert head.weight.shape == (5, 16)
    assert not head.weight.requires_grad
    assert accuracy(head, *clouds(5, 10, 0.1, 9)) > 0.9


def test_clips_keep_their_order_and_the_first_view_is_the_clip(
    make_model: Callable[..., Network],
) -> None:
    model = make_model()
    random = np.random.default_rng(0)
    mels = [torch.from_numpy(random.normal(-7, 3, (n, 16)).astype(np.float32)) for n in (40, 9, 25)]
    embeddings = embed_mels(model, mels, views=2, seed=1)
    assert embeddings.shape == (3, 3, 24)
    for i, clip in enumerate(mels):
        with torch.inference_mode():
            alone = model.embed(clip[None], torch.tensor([len(clip)]))[0]
        torch.testing.assert_close(embeddings[i, 0], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embeddings.norm(dim=2), torch.ones(3, 3))
    assert torch.equal(embeddings, embed_mels(model, mels, views=2, seed=1))
    assert not torch.allclose(embeddings[:, 1], embed_mels(model, mels, views=2, seed=2)[:, 1])
    assert not torch.allclose(embeddings[:, 1], embeddings[:, 0])


def test_samples_of_any_length_are_embedded(make_model: Callable[..., Network]) -> None:
    clips = [np.zeros(1, np.float32), np.ones(8000, np.float32), np.zeros(0, np.float32)]
    assert torch.isfinite(embed_clips(make_model(), clips, views=1)).all()


def test_a_clip_without_a_frame_is_refused(make_model: Callable[..., Network]) -> None:
    with pytest.raises(UserError, match="without a frame"):
        embed_mels(make_model(), [torch.zeros(0, 16)])


def tuned_alone(support: torch.Tensor, labels: torch.Tensor, words: int, steps: int = 40) -> torch.Tensor:
    """Tunes one head alone: the reference for tuning many at once."""
    flat, repeated = support.flatten(0, 1), labels.repeat_interleave(support.shape[1])
    means = torch.stack([flat[repeated == word].mean(dim=0) for word in range(words)])
    prototypes = F.normalize(means, dim=1)
    weight = prototypes.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(LOGIT_SCALE * flat @ weight.T, repeated)
        (loss + (weight - prototypes).square().sum(1).mean()).backward()
        optimizer.step()
    return weight.detach()


def test_heads_tuned_at_once_match_heads_tuned_alone() -> None:
    problems = [clouds(6, 3, 0.1 + 0.1 * seed, seed) for seed in range(5)]
    shuffled = [torch.randperm(18, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    support = torch.stack([clips[order] for (clips, _), order in zip(problems, shuffled, strict=True)])
    labels = torch.stack([labels[order] for (_, labels), order in zip(problems, shuffled, strict=True)])
    together = learn_heads(support, labels, 6, "head")
    for i in range(5):
        torch.testing.assert_close(together[i], tuned_alone(support[i], labels[i], 6), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together[i], learn_words(support[i], labels[i], 6, "head").weight)
