"""The training loop: seeded steps, checkpoints, exact resumption, and steps with a non-finite loss skipped.

The random numbers of a step depend only on the seed and the step, so a run that was killed and resumed takes exactly
the same steps as an uninterrupted one. Under `torchrun` (see `distributed`), every process takes the same steps and the
first one writes the checkpoints.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from metavox.errors import UserError
from metavox.progress import bar
from metavox.training.distributed import ALONE, Ranks

MAX_SKIPPED_SHARE = 0.05
Losses = dict[str, torch.Tensor]


@dataclass
class Training:
    """A named run that trains `modules` with `optimizers` for `steps` steps, with checkpoints in `folder`.

    `key` identifies everything the run depends on; a checkpoint with another key is not resumed. `update(step, random)`
    does one complete step and returns the values to record. A step with a non-finite value counts as skipped.
    """

    name: str
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    update: Callable[[int, torch.Generator], dict[str, float]]
    steps: int
    seed: int
    folder: Path
    key: str
    checkpoint_every: int = 100
    ranks: Ranks = ALONE
    history: list[dict[str, float]] = field(default_factory=list)
    skipped: int = 0

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    def run(self) -> pd.DataFrame:
        """Train to the end, from the last checkpoint if there is one, and return the history with one row per step.

        Raises UserError if more than 5% of the steps (and more than 3) have a non-finite loss, or if the processes do not
        start from the same state.
        """
        first_step = self._resume()
        self.ranks.check_same(f"{self.name} {self.key} {first_step}")
        with bar(self.name, self.steps, "steps", first_step, shown=self.ranks.first) as progress:
            for step in range(first_step, self.steps):
                # Dropout draws from the global generator, for this process's share of a batch.
                torch.manual_seed(self.ranks.seed(self.seed * 1_000_003 + step))
                random = torch.Generator().manual_seed(self.seed * 7_368_787 + step)
                buffers_before = self._buffers()
                record = self.update(step, random)
                self._check_finite(step, record, buffers_before)
                self.history.append({"step": step, **record})
                progress.advance(note=", ".join(f"{name} {value:.3f}" for name, value in record.items()))
                if (step + 1) % self.checkpoint_every == 0 and step + 1 < self.steps:
                    self._save(step + 1)
                    print(f"{self.name}: checkpoint at step {step + 1} of {self.steps}", flush=True)
        self._save(self.steps)
        if self.skipped:
            print(
                f"{self.name}: skipped {self.skipped} of {self.steps} steps, because their loss was not finite",
                flush=True,
            )
        return pd.DataFrame(self.history)

    def _buffers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(buffer, buffer.clone()) for module in self.modules.values() for buffer in module.buffers()]

    def _check_finite(
        self, step: int, record: dict[str, float], buffers_before: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        if all(math.isfinite(value) for value in record.values()):
            return
        for (
            buffer,
            value,
        ) in buffers_before:  # the forward pass has put non-finite values into the running statistics
            buffer.copy_(value)
        self.skipped += 1
        if self.skipped > max(3, MAX_SKIPPED_SHARE * self.steps):
            raise UserError(
                f"{self.name}: {self.skipped} of {step + 1} steps had a loss that is not finite; "
                "lower the stage's learning_rate, or check the newest rows of the manifest"
            )

    def _save(self, step: int) -> None:
        if not self.ranks.first:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{name}/{key}": value.contiguous()
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }
        for name, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{k}": torch.as_tensor(v).contiguous() for k, v in slots.items()}
        metadata = {"key": self.key, "step": step, "skipped": self.skipped, "history": self.history}
        partial = self.checkpoint.with_suffix(".partial")
        save_file(tensors, partial, {"training": json.dumps(metadata)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power failure may leave an empty file under the new name
        partial.replace(self.checkpoint)

    def _resume(self) -> int:
        if not self.checkpoint.is_file():
            return 0
        try:
            opened = safe_open(self.checkpoint, "pt")
        except SafetensorError:
            print(
                f"{self.name}: {self.checkpoint} is incomplete; training starts from the beginning",
                flush=True,
            )
            return 0
        with opened as file:
            metadata = json.loads(file.metadata()["training"])
            if metadata["key"] != self.key:
                return 0
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a safetensors file is not a dict
        for name, module in self.modules.items():
            module.load_state_dict(_with_prefix(tensors, name))
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in _with_prefix(tensors, name).items():
                index, slot = key.split("/")
                state.setdefault(int(index), {})[slot] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
            _match_memory_layout(optimizer)
        self.history, self.skipped = metadata["history"], metadata["skipped"]
        if 0 < metadata["step"] < self.steps:
            print(
                f"{self.name}: resuming from the checkpoint at step {metadata['step']} of {self.steps}",
                flush=True,
            )
        return int(metadata["step"])


def step_if_finite(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    clip: float = 5.0,
    ranks: Ranks = ALONE,
) -> float:
    """Backpropagate, clip the gradient norm to `clip` and step. Returns the loss.

    With several `ranks`, loss and gradients are the sums over them. If the loss or a gradient is not finite, no weight
    changes and the result is NaN.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    ranks.add_gradients(parameters)
    total = ranks.sum(loss)
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    if not torch.isfinite(norm + total):
        return math.nan
    optimizer.step()
    return float(total)


def set_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int, warmup: int = 50) -> None:
    """Set the learning rate of a step: linear warm-up to `peak`, then a half cosine down to a twentieth of it.

    The key `faster` of a parameter group multiplies its learning rate.
    """
    rate = (
        (step + 1) / warmup
        if step < warmup
        else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    )
    for group in optimizer.param_groups:
        group["lr"] = peak * rate * group.get("faster", 1.0)


def _match_memory_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give optimizer state the memory layout of its parameter, which a fused step requires and a file does not keep."""
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                slots[name] = torch.empty_like(parameter).copy_(value)


def _with_prefix(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")
    }
