"""Connectionist temporal classification that can be differentiated as often as one likes.

PyTorch's own has no second derivative ("derivative for aten::_ctc_loss_backward is not implemented"), which second-order
meta-learning through it needs. This is the forward recursion of Graves et al. 2006 (section 4.1) in log space, plain
tensor operations in one loop over time, so that autograd, `torch.func` and `vmap` see through it.
"""

from typing import Literal

import torch
from torch.nn import functional as F

Reduction = Literal["none", "mean", "sum"]


def ctc_loss(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> torch.Tensor:
    """log_probs (batch, time, symbols), targets (batch, labels) behind whose lengths anything may stand, lengths (batch,).

    The loss (batch,) is minus the log-probability of all paths that spell the target; `mean` divides each by its
    target's length first, as `torch.nn.functional.ctc_loss` does. A target that no path spells in its frames costs
    infinity, or nothing with `zero_infinity`, and has no slope either way (torch's is not a number without it). The
    slope is that of the formula, where torch gives the slope with respect to the softmax's logits right away: behind
    a `log_softmax` the two agree.
    """
    losses = -_log_likelihood(log_probs, targets, input_lengths, target_lengths, blank)
    impossible = losses > -0.5 * _never(log_probs.dtype)
    losses = losses.masked_fill(impossible, 0.0 if zero_infinity else torch.inf)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else (losses / target_lengths.clamp_min(1)).mean()


def _never(dtype: torch.dtype) -> float:
    """A log-probability of nothing: finite, so that no difference of two is not a number."""
    return -(torch.finfo(dtype).max ** 0.5)


def _log_likelihood(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    blank: int,
) -> torch.Tensor:
    """State 2k is a blank before label k, state 2k + 1 that label; alpha (batch, 2 + states) begins with two states
    before the first, of which the nearer one is where every path starts."""
    batch, time, _ = log_probs.shape
    never = _never(log_probs.dtype)
    inside = torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    labels = torch.where(inside, targets, blank)
    states = torch.stack([torch.full_like(labels, blank), labels], dim=2).flatten(1)
    states = F.pad(states, (0, 1), value=blank)
    skips = _skips(labels, blank)  # (batch, states)
    emissions = log_probs.clamp_min(never).gather(2, states[:, None, :].expand(batch, time, -1))
    alpha = F.pad(torch.zeros_like(emissions[:, 0, :1]), (1, states.shape[1]), value=never)
    for t in range(time):
        into = torch.stack([alpha[:, 2:], alpha[:, 1:-1], torch.where(skips, alpha[:, :-2], never)])
        moved = F.pad(torch.logsumexp(into, dim=0) + emissions[:, t], (2, 0), value=never)
        alpha = torch.where((t < input_lengths)[:, None], moved, alpha)
    last = 2 * target_lengths[:, None] + 2  # the blank behind the last label, after the two states in front
    # Without a label there is one end only; without a frame the path never leaves where it started.
    before = torch.where((target_lengths > 0) | (input_lengths == 0), alpha.gather(1, last - 1)[:, 0], never)
    # Not logaddexp: its second derivative is not a number where the two lie far apart.
    return torch.stack([alpha.gather(1, last)[:, 0], before]).logsumexp(dim=0)


def _skips(labels: torch.Tensor, blank: int) -> torch.Tensor:
    """Which states (batch, 2 * labels + 1) may be entered from two before: labels unlike the label before them."""
    before = F.pad(labels, (1, 0), value=-1)[:, :-1]
    fresh = (labels != before) & (labels != blank)
    return F.pad(torch.stack([torch.zeros_like(fresh), fresh], dim=2).flatten(1), (0, 1))
