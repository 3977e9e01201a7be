"""Device and precision of training: a GPU if there is one, otherwise the CPU; float32 or bfloat16.

With bfloat16, the weights, their gradients and the optimizer state stay in float32; only matrix products and
convolutions are autocast (Micikevicius et al. 2018, section 3.1; bfloat16 needs no loss scaling). Convolutions use the
channels-last memory format, which cuDNN and oneDNN prefer: on a CPU it makes a step 20% faster, even in float32.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn

from metavox.training.distributed import ALONE, Ranks

Precision = Literal["float32", "bfloat16"]
Module = TypeVar("Module", bound=nn.Module)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Compute:
    """A device, a precision and the processes that train together: call `place` once for each module, then run each
    forward pass inside `autocast()`.

    Random numbers are drawn on the CPU and then moved, so that a seed gives the same numbers on every device.
    Perturbation and the backward pass belong outside `autocast()`.
    """

    device: torch.device = CPU
    precision: Precision = "float32"
    ranks: Ranks = ALONE

    def place(self, module: Module) -> Module:
        """Move the module in place and return it. Call this before creating its optimizer."""
        self.ranks.synchronised(module)
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def move(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


def compute(precision: Precision = "float32", ranks: Ranks = ALONE) -> Compute:
    """Choose the first visible GPU (`CUDA_VISIBLE_DEVICES=` hides all of them), otherwise the CPU. Each of several
    processes has a GPU of its own.

    A CPU without bfloat16 instructions always computes in float32, because bfloat16 would be slower there.
    """
    if torch.cuda.is_available():
        return Compute(ranks.fabric.device if ranks.fabric else torch.device("cuda"), precision, ranks)
    return Compute(CPU, precision if has_bfloat16_instructions() else "float32", ranks)


def has_bfloat16_instructions() -> bool:
    """Whether this CPU has AMX or AVX-512 BF16."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
