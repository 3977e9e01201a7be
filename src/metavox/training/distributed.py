"""Data-parallel training in the processes that `torchrun` starts, connected by Lightning Fabric.

Every process draws the same global batch and computes its share of the loss; the gradients are then summed, and equal
those of one process. A loss that is a mean over items divides by the number of items of all processes (`Ranks.mean`), a
loss that relates items to each other gets those of all processes (`Ranks.gather`), and batch normalisation uses the
statistics of the global batch. In one process nothing is communicated and nothing changes.

torch's DistributedDataParallel would see neither losses that call other methods than `forward` nor meta-gradients, which
call the network functionally. So gradients are summed in one place, `loop.step_if_finite`.
"""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from metavox.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

OWN_SEED = 1 << 40  # between the seeds of two processes, further apart than those of any two steps


@dataclass(frozen=True)
class Ranks:
    """The processes that train together: this one is number `rank` of `world`.

    With `apart`, each process draws batches of its own, and the global batch is all of them together.
    """

    rank: int = 0
    world: int = 1
    fabric: "Fabric | None" = None
    apart: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of the `count` items of a batch this process computes.

        Fewer items than processes are not shared out: all processes compute all of them. That gives the same gradient;
        only the running variance of batch normalisation then sees a larger sample than there is.
        """
        if self.apart or count < self.world:
            return slice(0, count)
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def seed(self, seed: int) -> int:
        """A seed of this process's own."""
        return seed + self.rank * OWN_SEED

    def random(self, random: torch.Generator) -> torch.Generator:
        """The random numbers of a batch: those of all processes, or this one's own where batches are drawn apart."""
        return torch.Generator().manual_seed(self.seed(random.initial_seed())) if self.apart else random

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, as a constant."""
        if self.fabric is None:
            return value.detach()
        total: torch.Tensor = self.fabric.all_reduce(value.detach().clone(), reduce_op="sum")  # type: ignore[assignment]
        return total

    def mean(self, total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """This process's summand of the mean over the items of all processes, from the sum and number of its own."""
        return total / self.sum(count).clamp_min(1)

    def gather(self, items: torch.Tensor, count: int) -> torch.Tensor:
        """The `count` items of the global batch, in its order, from this process's share of them (items, ...).

        Every process gets the gradient of what all processes compute from its items, so a loss that all of them compute
        alike must be divided by `world`.
        """
        if self.fabric is None or count < self.world:
            return items
        longest = -(-count // self.world)
        padded = F.pad(items, (0, 0) * (items.dim() - 1) + (0, longest - len(items)))
        gathered = self._gathered(padded)
        sizes = [count * (r + 1) // self.world - count * r // self.world for r in range(self.world)]
        return torch.cat([of_rank[:size] for of_rank, size in zip(gathered, sizes, strict=True)])

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes. A parameter without a gradient in any keeps none."""
        if self.fabric is None:
            return
        present = [parameter.grad is not None for parameter in parameters]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flags = torch.tensor(present, dtype=gradients[0].dtype, device=gradients[0].device)
        flat: Any = torch.cat([*(gradient.flatten() for gradient in gradients), flags])
        flat = self.fabric.all_reduce(flat, reduce_op="sum")
        *sums, anywhere = flat.split([*(gradient.numel() for gradient in gradients), len(flags)])
        for parameter, gradient, total, used in zip(
            parameters, gradients, sums, anywhere.tolist(), strict=True
        ):
            # In place, because a fused optimizer needs the memory layout of the parameter.
            parameter.grad = gradient.copy_(total.view(gradient.shape)) if used else None

    def synchronised(self, module: nn.Module) -> None:
        """Make the module's batch normalisation use the statistics of the global batch; its weights stay the same."""
        if self.fabric is None:
            return
        for parent in list(module.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                    setattr(parent, name, GlobalBatchNorm(child, self))

    def check_same(self, what: str) -> None:
        """Raise UserError unless all processes start from the same state, of which `what` is a description."""
        if self.fabric is None:
            return
        digest = torch.tensor(int.from_bytes(hashlib.sha256(what.encode()).digest()[:7]))
        digests = self._gathered(digest.to(self.fabric.device))
        if (digests != digests[0]).any():
            raise UserError(
                "the processes start from different code, data, parameters or checkpoints; expected the same project "
                "folder on every machine: share it, or bring all copies to one state"
            )

    def _gathered(self, value: torch.Tensor) -> torch.Tensor:
        """(world, ...): the value of each process, which must have the same shape in all."""
        assert self.fabric is not None
        gathered: Any = self.fabric.all_gather(value, sync_grads=True)
        return gathered  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, object]) -> "Ranks":
        return self  # a copy of a network belongs to the same processes


ALONE = Ranks()


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of the items of all processes (Peng et al. 2018, MegDet), merged as in Chan et
    al. 1983. torch's SyncBatchNorm needs a GPU."""

    def __init__(self, of: nn.BatchNorm1d | nn.BatchNorm2d, ranks: Ranks):
        super().__init__(of.num_features, of.eps, of.momentum, of.affine, of.track_running_stats)
        self.ranks = ranks
        self.weight, self.bias = of.weight, of.bias
        self.running_mean, self.running_var = of.running_mean, of.running_var
        self.num_batches_tracked = of.num_batches_tracked
        self.train(of.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, ...) -> the same; processes may have different numbers of items."""
        if not self.training:
            return super().forward(x)
        values = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.dim())]
        own_var, own_mean = torch.var_mean(values, axes, correction=0)
        own_count = torch.full_like(own_mean, values.numel() // values.shape[1])
        means, variances, counts = self.ranks._gathered(torch.stack([own_mean, own_var, own_count])).unbind(1)
        count = counts.sum(dim=0)
        mean = (means * counts).sum(dim=0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(dim=0) / count
        self._track(mean.detach(), (variance * count / (count - 1).clamp_min(1)).detach())
        scale = (variance + self.eps).rsqrt() * (self.weight if self.affine else 1.0)
        shift = (self.bias if self.affine else 0.0) - mean * scale
        shape = (1, -1, *[1] * (x.dim() - 2))
        return (values * scale.view(shape) + shift.view(shape)).to(x.dtype)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of axes after the channels."""


def world_size() -> int:
    """The number of processes that `torchrun` started together with this one; 1 where it did not start this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


@contextmanager
def launched() -> Iterator[Ranks]:
    """The processes that `torchrun` started, connected; only the first prints. Raises UserError for more processes on a
    machine than it has GPUs, if it has any."""
    world = world_size()
    if world == 1:
        yield ALONE
        return
    here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if 0 < gpus < here:
        raise UserError(
            f"{here} processes on a machine with {gpus} GPUs; expected at most one for each; start fewer "
            "(torchrun --nproc-per-node), or hide the GPUs (CUDA_VISIBLE_DEVICES=)"
        )
    from lightning_fabric import Fabric

    fabric = Fabric(
        accelerator="cuda" if gpus else "cpu", devices=here, num_nodes=world // here, strategy="ddp"
    )
    # Fabric still gathers by a function that torch 2.13 calls deprecated.
    warnings.filterwarnings("ignore", message=r"torch\.distributed\.nn\.functional\.all_gather is deprecated")
    fabric.launch()
    ranks = Ranks(fabric.global_rank, fabric.world_size, fabric)
    with open(os.devnull, "w") as nowhere, nullcontext() if ranks.first else redirect_stdout(nowhere):
        yield ranks
