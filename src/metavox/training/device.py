"""Where training computes and how precisely: a GPU where there is one, else the CPU; float32 or bfloat16.

In bfloat16 the weights, their gradients and the optimizer stay float32: matrix products and convolutions are autocast
(Micikevicius et al. 2018, section 3.1; bfloat16 needs no loss scaling). Images lie channels last, which is how cuDNN and
oneDNN want them: on a CPU a step takes a fifth less time for it, in float32 too.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn

Precision = Literal["float32", "bfloat16"]
M = TypeVar("M", bound=nn.Module)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Compute:
    """A device and a precision: `place` the modules once, then run each forward pass inside `autocast()`.

    What is drawn at random is drawn on the CPU and moved, so that a seed means the same on every device. Perturbations
    and the backward pass belong outside of `autocast()`.
    """

    device: torch.device = CPU
    precision: Precision = "float32"

    def place(self, module: M) -> M:
        """The module itself, moved; before its optimizer is made."""
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def move(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


def compute(precision: Precision = "float32") -> Compute:
    """The first GPU that CUDA shows (`CUDA_VISIBLE_DEVICES=` hides them all), else the CPU.

    A CPU without instructions for bfloat16 would be slower with it than without, and computes in float32.
    """
    if torch.cuda.is_available():
        return Compute(torch.device("cuda"), precision)
    return Compute(CPU, precision if multiplies_bfloat16() else "float32")


def multiplies_bfloat16() -> bool:
    """Whether this CPU has AMX or AVX-512 BF16."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
