"""Lengths and masks of padded batches."""

import torch


def frame_mask(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """Lengths (batch,) -> mask (batch, frames), true inside the item."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def halve(lengths: torch.Tensor) -> torch.Tensor:
    """Lengths after one convolution of kernel 3, stride 2, padding 1."""
    return (lengths + 1) // 2
