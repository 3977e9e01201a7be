"""Joint training: CTC matches a second implementation, the margin, and losses that fall during training."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metavox.audio.perturb import Perturb
from metavox.dataset.store import Store
from metavox.recognisers.conformer import ctc_loss
from metavox.recognisers.conformer.network import Network
from metavox.training.joint import (
    LOGIT_SCALE,
    CosineClasses,
    JointTask,
    WordLoss,
    contrastive_loss,
    labelled,
    word_labels,
)


def forward_algorithm(log_probs: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """Negative log-likelihood of the tokens by the forward algorithm (Graves et al. 2006, section 4.1)."""
    states = [0, *itertools.chain.from_iterable((t, 0) for t in tokens)]
    log_zero = torch.tensor(-math.inf, dtype=log_probs.dtype)
    alpha = [log_probs[0, s] if i < 2 else log_zero for i, s in enumerate(states)]
    for frame in log_probs[1:]:
        new = []
        for i, symbol in enumerate(states):
            predecessors = [alpha[i]]
            if i >= 1:
                predecessors.append(alpha[i - 1])
            if i >= 2 and symbol != 0 and symbol != states[i - 2]:
                predecessors.append(alpha[i - 2])
            possible = [value for value in predecessors if value > -math.inf]
            new.append(torch.logsumexp(torch.stack(possible), 0) + frame[symbol] if possible else log_zero)
        alpha = new
    return -torch.logsumexp(torch.stack(alpha[-2:]), 0)


def test_ctc_matches_a_second_implementation_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    tokens = [[1, 2, 3], [2, 2], [1], [3, 1, 1, 2], [1, 2, 1, 2, 1]]
    lengths = torch.tensor([9, 5, 1, 7, 5])
    logits = torch.randn(5, 9, 4, dtype=torch.float64, requires_grad=True)
    ours = ctc_loss(logits.log_softmax(2), lengths, tokens)
    (gradient,) = torch.autograd.grad(ours, logits)
    log_probs = logits.log_softmax(2)
    losses = [
        forward_algorithm(log_probs[i, :n], t) for i, (n, t) in enumerate(zip(lengths, tokens, strict=True))
    ]
    expected = torch.stack(losses).sum() / sum(map(len, tokens))
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])


def test_the_second_implementation_sums_over_every_path() -> None:
    torch.manual_seed(1)
    log_probs = torch.randn(4, 3, dtype=torch.float64).log_softmax(1)
    for tokens in ([1], [1, 2], [2, 2]):
        total = 0.0
        for path in itertools.product(range(3), repeat=4):
            collapsed = [t for i, t in enumerate(path) if t and (i == 0 or t != path[i - 1])]
            if collapsed == tokens:
                total += math.exp(sum(float(log_probs[i, t]) for i, t in enumerate(path)))
        assert float(forward_algorithm(log_probs, tokens)) == pytest.approx(-math.log(total))


def test_a_text_too_long_for_its_frames_has_no_gradient_and_a_finite_loss() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = ctc_loss(logits.log_softmax(2), torch.tensor([3, 3]), [[1, 1, 1], [2]])
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).any()


def test_the_margin_applies_to_the_true_word_only() -> None:
    torch.manual_seed(0)
    embeddings, labels = F.normalize(torch.randn(6, 8), dim=1), torch.tensor([0, 1, 2, 0, 1, 2])
    classes = CosineClasses(8, 3, margin=0.2)
    loss, accuracy = classes.loss(embeddings, labels)
    cosines = torch.stack([F.cosine_similarity(embeddings, row[None]) for row in classes.weight], dim=1)
    logits = LOGIT_SCALE * cosines
    logits[range(6), labels] -= LOGIT_SCALE * 0.2
    log_probs = logits.log_softmax(1)
    smooth = 0.05 * log_probs.mean(1) + 0.95 * log_probs[range(6), labels]
    torch.testing.assert_close(loss, -smooth.mean())
    assert float(accuracy) == pytest.approx(float((cosines.argmax(1) == labels).float().mean()))
    without = CosineClasses(8, 3, margin=0.0)
    without.load_state_dict(classes.state_dict())
    assert without.loss(embeddings, labels)[0] < loss


def test_word_classes_are_pairs_of_language_and_text_and_other_rows_are_for_ctc(
    make_store: Callable[..., Store], make_model: Callable[..., Network]
) -> None:
    store = make_store()
    store.rows.loc[store.rows.index[:12], "language"] = "yy"
    store.rows.loc[12, "text"] = "once"
    store.rows.loc[13, "text_kind"] = "concept"
    labels = word_labels(store.rows)
    assert labels[0] == "yy:ab"
    assert labels[16] == "xx:ab"
    assert labels[13] == ""
    assert (labels[store.rows["unit"] == "sentence"] == "").all()
    data = labelled(store, make_model().tokenizer)
    assert data.classes == 8
    assert data.labels[12] == -1, "a word with one clip is used for CTC only"
    assert data.labels[0] != data.labels[16]
    assert data.tokens[0] == make_model().tokenizer.encode("ab")
    assert data.tokens[13] == [], "the spoken words of a concept are unknown"
    assert data.labels[13] == -1


@pytest.mark.parametrize("seed", [0, 1])
def test_a_few_steps_lower_both_losses(
    make_store: Callable[..., Store], make_model: Callable[..., Network], unchanged: Perturb, seed: int
) -> None:
    model, store = make_model(seed).train(), make_store()

    task = JointTask(model, labelled(store, model.tokenizer), 1500, 0.4, seed, unchanged)
    optimizer = torch.optim.Adam([p for g in task.groups() for p in g["params"]], 0.005)
    records = []
    for step in range(25):
        loss, record = task(step, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        records.append(record)
    for name in ("loss", "ctc"):
        first, last = (np.mean([r[name] for r in part]) for part in (records[:3], records[-3:]))
        assert last < 0.8 * first
    assert records[-1]["accuracy"] > 0.5


def test_the_contrastive_loss_equals_that_of_one_shot_episodes_in_the_batch() -> None:
    torch.manual_seed(0)
    embeddings = F.normalize(torch.randn(10, 6, dtype=torch.float64), dim=1).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 0, 0, 2, 2, 3, 3])
    loss, accuracy = contrastive_loss(embeddings, labels)
    losses, correct = [], []
    for query, support in ((0, 1), (1, 0)):
        for word in range(5):
            candidates = [w for w in range(5) if w == word or labels[2 * w] != labels[2 * word]]
            scores = [
                LOGIT_SCALE * embeddings[2 * word + query] @ embeddings[2 * w + support] for w in candidates
            ]
            losses.append(-torch.stack(scores).log_softmax(0)[candidates.index(word)])
            correct.append(candidates[int(torch.stack(scores).argmax())] == word)
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert float(accuracy) == pytest.approx(np.mean(correct[:5]))
    loss.backward()
    assert torch.isfinite(embeddings.grad).all()


def test_recorded_words_are_oversampled_and_used_for_ctc_too(
    make_store: Callable[..., Store], make_model: Callable[..., Network], unchanged: Perturb
) -> None:
    model, store = make_model(), make_store()
    store.rows["synthetic"] = np.arange(len(store)) % 2 == 0
    data = labelled(store, model.tokenizer)
    task = JointTask(model, data, 1000, 0.4, 0, unchanged, words=WordLoss(recorded_oversampling=3))
    words = data.labels >= 0
    counts = np.bincount(task._words, minlength=len(store))
    assert (counts[words] == np.where(store.rows["synthetic"][words], 1, 3)).all()
    assert not counts[~words].any()
    for_ctc = set(task._texts)
    assert {i for i in np.flatnonzero(words) if i in for_ctc} == set(
        np.flatnonzero(words & ~store.rows["synthetic"])
    )
