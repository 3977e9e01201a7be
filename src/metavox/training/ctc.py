"""A CTC loss that can be differentiated any number of times.

PyTorch's `ctc_loss` has no second derivative ("derivative for aten::_ctc_loss_backward is not implemented"), and
second-order meta-learning through CTC needs one. This is the forward recursion of Graves et al. 2006 (section 4.1) in
log space. It uses only plain tensor operations in a loop over time, so autograd, `torch.func` and `vmap` all work.
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
    """CTC loss: minus the log-probability of all paths that spell the target.

    `log_probs` is (batch, time, symbols), `targets` (batch, labels) with arbitrary values after each target's length,
    and both lengths are (batch,). Returns (batch,) with `none`, otherwise a scalar; `mean` first divides each loss by
    its target's length, as `torch.nn.functional.ctc_loss` does.

    A target that does not fit its frames has an infinite loss, or zero with `zero_infinity`; its gradient is zero in
    both cases (PyTorch's is NaN without `zero_infinity`). The gradient is the exact derivative with respect to
    `log_probs`, whereas PyTorch returns the derivative with respect to the logits; after a `log_softmax` they agree.
    """
    losses = -_log_likelihood(log_probs, targets, input_lengths, target_lengths, blank)
    impossible = losses > -0.5 * _impossible_log_prob(log_probs.dtype)
    losses = losses.masked_fill(impossible, 0.0 if zero_infinity else torch.inf)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else (losses / target_lengths.clamp_min(1)).mean()


def _impossible_log_prob(dtype: torch.dtype) -> float:
    """The log-probability of an impossible event; finite, so that the difference of two is impossible_log_prob NaN."""
    return -(torch.finfo(dtype).max ** 0.5)


def _log_likelihood(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    blank: int,
) -> torch.Tensor:
    """Log-likelihood of each target (batch,), by the forward recursion.

    State 2k is the blank before label k, and state 2k + 1 is label k. `alpha` (batch, 2 + states) has two extra states
    in front of the first one; every path starts in the second of them.
    """
    batch, time, _ = log_probs.shape
    impossible_log_prob = _impossible_log_prob(log_probs.dtype)
    inside = torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    labels = torch.where(inside, targets, blank)
    states = torch.stack([torch.full_like(labels, blank), labels], dim=2).flatten(1)
    states = F.pad(states, (0, 1), value=blank)
    skips = _skips(labels, blank)  # (batch, states)
    emissions = log_probs.clamp_min(impossible_log_prob).gather(2, states[:, None, :].expand(batch, time, -1))
    alpha = F.pad(torch.zeros_like(emissions[:, 0, :1]), (1, states.shape[1]), value=impossible_log_prob)
    for t in range(time):
        incoming = torch.stack(
            [alpha[:, 2:], alpha[:, 1:-1], torch.where(skips, alpha[:, :-2], impossible_log_prob)]
        )
        next_alpha = F.pad(
            torch.logsumexp(incoming, dim=0) + emissions[:, t], (2, 0), value=impossible_log_prob
        )
        alpha = torch.where((t < input_lengths)[:, None], next_alpha, alpha)
    last = (
        2 * target_lengths[:, None] + 2
    )  # the blank after the last label; 2 counts the extra states in front
    # An empty target has only one final state; with no frames, the path stays where it started.
    before = torch.where(
        (target_lengths > 0) | (input_lengths == 0), alpha.gather(1, last - 1)[:, 0], impossible_log_prob
    )
    # Not logaddexp: its second derivative is NaN where its arguments are far apart.
    return torch.stack([alpha.gather(1, last)[:, 0], before]).logsumexp(dim=0)


def _skips(labels: torch.Tensor, blank: int) -> torch.Tensor:
    """Whether each state (batch, 2 * labels + 1) can be entered from two states back: labels that differ from the
    label before them."""
    before = F.pad(labels, (1, 0), value=-1)[:, :-1]
    differs = (labels != before) & (labels != blank)
    return F.pad(torch.stack([torch.zeros_like(differs), differs], dim=2).flatten(1), (0, 1))
