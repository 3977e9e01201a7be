"""Joint training: CTC against a second implementation, the margin, and a loss that falls."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metavox.audio.perturb import Perturb
from metavox.dataset.store import Store
from metavox.recognisers.conformer.network import Network
from metavox.training.joint import (
    LOGIT_SCALE,
    CosineClasses,
    JointTask,
    WordLoss,
    ctc_loss,
    labelled,
    pair_loss,
    word_labels,
)


def forward_algorithm(log_probs: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """Minus log-likelihood of the tokens (Graves et al. 2006, section 4.1), plain sums of logs."""
    states = [0, *itertools.chain.from_iterable((t, 0) for t in tokens)]
    nothing = torch.tensor(-math.inf, dtype=log_probs.dtype)
    alpha = [log_probs[0, s] if i < 2 else nothing for i, s in enumerate(states)]
    for frame in log_probs[1:]:
        new = []
        for i, symbol in enumerate(states):
            ways = [alpha[i]]
            if i >= 1:
                ways.append(alpha[i - 1])
            if i >= 2 and symbol != 0 and symbol != states[i - 2]:
                ways.append(alpha[i - 2])
            real = [w for w in ways if w > -math.inf]
            new.append(torch.logsumexp(torch.stack(real), 0) + frame[symbol] if real else nothing)
        alpha = new
    return -torch.logsumexp(torch.stack(alpha[-2:]), 0)


def test_ctc_is_that_of_a_second_implementation_in_value_and_slope() -> None:
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


def test_a_text_too_long_for_its_frames_teaches_nothing_and_breaks_nothing() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = ctc_loss(logits.log_softmax(2), torch.tensor([3, 3]), [[1, 1, 1], [2]])
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).any()


def test_the_margin_is_taken_from_the_true_word_alone() -> None:
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


def test_words_are_language_and_text_and_the_rest_is_for_ctc(
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
    assert data.labels[12] == -1, "a word heard once is for CTC"
    assert data.labels[0] != data.labels[16]
    assert data.tokens[0] == make_model().tokenizer.encode("ab")
    assert data.tokens[13] == [], "the words of a concept are not known"
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
    assert task.clips_a_step > 1


def test_pairs_are_one_shot_episodes_of_the_batch() -> None:
    torch.manual_seed(0)
    embeddings = F.normalize(torch.randn(10, 6, dtype=torch.float64), dim=1).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 0, 0, 2, 2, 3, 3])
    loss, accuracy = pair_loss(embeddings, labels)
    losses, right = [], []
    for asks, taught in ((0, 1), (1, 0)):
        for word in range(5):
            others = [w for w in range(5) if w == word or labels[2 * w] != labels[2 * word]]
            scores = [LOGIT_SCALE * embeddings[2 * word + asks] @ embeddings[2 * w + taught] for w in others]
            losses.append(-torch.stack(scores).log_softmax(0)[others.index(word)])
            right.append(others[int(torch.stack(scores).argmax())] == word)
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert float(accuracy) == pytest.approx(np.mean(right[:5]))
    loss.backward()
    assert torch.isfinite(embeddings.grad).all()


def test_a_recorded_word_comes_as_often_as_wanted_and_is_spelled_too(
    make_store: Callable[..., Store], make_model: Callable[..., Network], unchanged: Perturb
) -> None:
    model, store = make_model(), make_store()
    store.rows["synthetic"] = np.arange(len(store)) % 2 == 0
    data = labelled(store, model.tokenizer)
    task = JointTask(model, data, 1000, 0.4, 0, unchanged, words=WordLoss(recorded_oversampling=3))
    words = data.labels >= 0
    counted = np.bincount(task._words, minlength=len(store))
    assert (counted[words] == np.where(store.rows["synthetic"][words], 1, 3)).all()
    assert not counted[~words].any()
    spelled = set(task._texts)
    assert {i for i in np.flatnonzero(words) if i in spelled} == set(
        np.flatnonzero(words & ~store.rows["synthetic"])
    )
