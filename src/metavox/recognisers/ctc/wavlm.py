"""WavLM's attention, with its projections called as layers.

The original passes their weights to a function, which would bypass a LoRA layer.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


class ExposedAttention(WavLMAttention):  # type: ignore[misc]
    """The same attention (Chen et al. 2021, section 3.1), calling whatever layer replaces a projection."""

    def torch_multi_head_self_attention(  # type: ignore[override]
        self, hidden_states: torch.Tensor, attention_mask: Any, gated_position_bias: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        """hidden_states (batch, frames, dim), attention_mask (batch, frames) or None, bias (batch * heads,
        frames, frames) -> (batch, frames, dim).
        """
        batch, frames, dim = hidden_states.shape
        bias = gated_position_bias.view(batch, self.num_heads, frames, frames)
        if attention_mask is not None:
            bias = bias.masked_fill(attention_mask[:, None, None].ne(1), -torch.inf)
        query, key, value = (
            layer(hidden_states).view(batch, frames, self.num_heads, self.head_dim).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, frames, dim)), None


def expose_projections(model: nn.Module) -> None:
    """Replace every attention of the model in place; the weights stay the same."""
    for module in model.modules():
        if type(module) is WavLMAttention:
            module.__class__ = ExposedAttention
