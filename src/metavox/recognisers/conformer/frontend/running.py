"""Exponential averages over time, computed in blocks: no loop over frames, differentiable in the decay, with
state.
"""

import torch

BLOCK = 32  # frames; a block is one matrix product


def decayed_sum(
    x: torch.Tensor, decay: torch.Tensor, state: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """y[t] = decay * y[t-1] + x[t].

    x (batch, time, bands), decay (bands,) or (1,) between 0 and 1, state (batch, bands) is y before the first
    frame. Returns y (batch, time, bands) and the state after the last frame.
    """
    carry = x.new_zeros(len(x), x.shape[2]) if state is None else state
    steps = torch.arange(BLOCK, device=x.device)
    ages = steps[:, None] - steps[None, :]
    # (to, from, bands)
    spread = torch.where((ages >= 0)[..., None], decay ** ages.clamp_min(0)[..., None], 0.0)
    fading = decay ** (steps[:, None] + 1)  # (block, bands)
    out = []
    for block in x.split(BLOCK, dim=1):
        size = block.shape[1]
        summed = torch.einsum("ijb,njb->nib", spread[:size, :size].expand(-1, -1, x.shape[2]), block)
        out.append(summed + fading[:size] * carry[:, None])
        carry = out[-1][:, -1]
    return (torch.cat(out, dim=1) if out else x), carry


def average(
    x: torch.Tensor, weight: torch.Tensor, state: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """m[t] = (1 - weight) * m[t-1] + weight * x[t], initialised with the first frame. Shapes as in
    `decayed_sum`.
    """
    before = x[:, 0] if state is None else state
    return decayed_sum(weight * x, 1 - weight, before)
