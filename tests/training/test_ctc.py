"""CTC: the loss matches PyTorch and a sum over all paths, and its derivatives match finite differences."""

from itertools import groupby, product

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import vmap
from torch.nn import functional as F

from metavox.training.ctc import Reduction, ctc_loss

# Targets with repeats, of full length, and empty; one clip has fewer frames than the batch.
TARGETS = torch.tensor([[1, 2, 3, 1], [2, 2, 2, 4], [3, 0, 0, 0], [0, 0, 0, 0], [4, 1, 9, -1]])
TARGET_LENGTHS = torch.tensor([4, 3, 1, 0, 2])
LENGTHS = torch.tensor([9, 9, 5, 7, 2])


@pytest.fixture(params=[torch.float32, torch.float64])
def logits(request: pytest.FixtureRequest) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return (3 * torch.randn(5, 9, 5, generator=random, dtype=request.param)).requires_grad_()


def by_torch(
    logits: torch.Tensor, reduction: str, blank: int = 0, zero_infinity: bool = False
) -> torch.Tensor:
    return F.ctc_loss(
        logits.log_softmax(2).transpose(0, 1),
        TARGETS.clamp(0, 4),
        LENGTHS,
        TARGET_LENGTHS,
        blank,
        reduction,
        zero_infinity,
    )


def loss_over_all_paths(log_probs: torch.Tensor, target: list[int], blank: int) -> torch.Tensor:
    """Negative log-likelihood of the target under `log_probs` (time, symbols), by enumeration of all paths."""
    total = torch.zeros((), dtype=log_probs.dtype)
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [symbol for symbol, _ in groupby(path) if symbol != blank] == target:
            total = total + log_probs[range(len(path)), list(path)].sum().exp()
    return -total.log()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_value_and_gradient_match_pytorch(logits: torch.Tensor, reduction: Reduction) -> None:
    ours = ctc_loss(logits.log_softmax(2), TARGETS, LENGTHS, TARGET_LENGTHS, reduction=reduction)
    theirs = by_torch(logits, reduction)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("target", [[], [0], [1, 2], [2, 2], [0, 0, 0], [1, 0, 1]])
def test_value_and_gradient_match_the_sum_over_all_paths(target: list[int], blank: int) -> None:
    target = [symbol + 1 if symbol >= blank else symbol for symbol in target]
    logits = torch.randn(
        1, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).requires_grad_()
    log_probs = logits.log_softmax(2)
    expected = loss_over_all_paths(log_probs[0], target, blank)
    padded = torch.tensor([[*target, 7]])
    ours = ctc_loss(log_probs, padded, torch.tensor([5]), torch.tensor([len(target)]), blank, "sum")
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad(loss, log_probs, retain_graph=True)[0] for loss in (ours, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_impossible_targets_have_infinite_or_zero_loss_and_no_gradient() -> None:
    logits = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    targets = torch.tensor([[1, 2, 3, 1], [2, 2, 2, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    # Too long; needs blanks between repeats; no frames for a symbol; no frames and no symbols (possible).
    lengths, target_lengths = torch.tensor([3, 3, 0, 0]), torch.tensor([4, 3, 1, 0])
    for zero in (True, False):
        ours = ctc_loss(logits.log_softmax(2), targets, lengths, target_lengths, 0, "none", zero)
        theirs = F.ctc_loss(
            logits.log_softmax(2).transpose(0, 1), targets, lengths, target_lengths, 0, "none", zero
        )
        assert torch.equal(ours, theirs)
        (gradient,) = torch.autograd.grad(ours.sum(), logits)
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_symbols_of_zero_probability_are_on_no_path() -> None:
    log_probs = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.0, 0.75]]).log()[None].requires_grad_()
    ours = ctc_loss(log_probs, torch.tensor([[1, 2]]), torch.tensor([2]), torch.tensor([2]), 0, "sum")
    torch.testing.assert_close(ours, -torch.tensor(0.375).log())
    (gradient,) = torch.autograd.grad(ours, log_probs)
    assert torch.equal(gradient, torch.tensor([[[0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]]))


def test_first_and_second_derivatives_match_finite_differences() -> None:
    logits = torch.randn(5, 9, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return ctc_loss(x.log_softmax(2), TARGETS, LENGTHS, TARGET_LENGTHS, reduction="none")

    assert gradcheck(loss, logits.requires_grad_())
    assert gradgradcheck(loss, logits)
    with pytest.raises(RuntimeError, match="not implemented"):
        gradgradcheck(lambda x: by_torch(x, "sum"), logits)


def test_vmap_matches_a_loop(logits: torch.Tensor) -> None:
    log_probs = logits.detach().log_softmax(2)
    items = [part[:, None] for part in (log_probs, TARGETS, LENGTHS, TARGET_LENGTHS)]
    loop = torch.stack([ctc_loss(*parts, reduction="sum") for parts in zip(*items, strict=True)])
    torch.testing.assert_close(vmap(lambda *parts: ctc_loss(*parts, reduction="sum"))(*items), loop)
