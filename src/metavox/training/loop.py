"""The one training loop: seeded steps, skipped non-finite losses, checkpoints, exact resume.

What a step draws depends on the seed and the step's number alone, so a run that was killed and resumed
goes through the same steps as one that was not.
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

MAX_SKIPPED_SHARE = 0.05
Losses = dict[str, torch.Tensor]


@dataclass
class Training:
    """One named run: `modules` learn by `optimizers` for `steps`.

    `key` says what the run depends on; a checkpoint with another key is not resumed. `update(step, random)`
    does one step on its own and returns what to record; a non-finite record stops a run after too many.
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
    history: list[dict[str, float]] = field(default_factory=list)
    skipped: int = 0

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    def run(self) -> pd.DataFrame:
        """Train to the end, from the last checkpoint where there is one; the history, a row a step."""
        first = self._resume()
        with bar(self.name, self.steps, "steps", first) as progress:
            for step in range(first, self.steps):
                # Dropout and the like draw from the global generator.
                torch.manual_seed(self.seed * 1_000_003 + step)
                random = torch.Generator().manual_seed(self.seed * 7_368_787 + step)
                before = self._buffers()
                record = self.update(step, random)
                self._judge(step, record, before)
                self.history.append({"step": step, **record})
                progress.advance(note=", ".join(f"{name} {value:.3f}" for name, value in record.items()))
                if (step + 1) % self.checkpoint_every == 0 and step + 1 < self.steps:
                    self._save(step + 1)
                    print(f"{self.name}: checkpoint at step {step + 1} of {self.steps}", flush=True)
        self._save(self.steps)
        if self.skipped:
            print(
                f"{self.name}: {self.skipped} of {self.steps} steps skipped: their loss was no number",
                flush=True,
            )
        return pd.DataFrame(self.history)

    def _buffers(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(buffer, buffer.clone()) for module in self.modules.values() for buffer in module.buffers()]

    def _judge(
        self, step: int, record: dict[str, float], before: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        if all(math.isfinite(value) for value in record.values()):
            return
        for buffer, was in before:  # running statistics moved in the forward pass, by what is no number
            buffer.copy_(was)
        self.skipped += 1
        if self.skipped > max(3, MAX_SKIPPED_SHARE * self.steps):
            raise UserError(
                f"{self.name}: {self.skipped} steps of {step + 1} had a loss that is not a number; "
                "lower the stage's learning_rate, or look at the newest rows of the manifest"
            )

    def _save(self, step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{name}/{key}": value.contiguous()
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }
        for name, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{k}": torch.as_tensor(v).contiguous() for k, v in slots.items()}
        about = {"key": self.key, "step": step, "skipped": self.skipped, "history": self.history}
        aside = self.checkpoint.with_suffix(".partial")
        save_file(tensors, aside, {"training": json.dumps(about)})
        with aside.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        aside.replace(self.checkpoint)

    def _resume(self) -> int:
        if not self.checkpoint.is_file():
            return 0
        try:
            opened = safe_open(self.checkpoint, "pt")
        except SafetensorError:
            print(f"{self.name}: {self.checkpoint} is not whole; starting from the beginning", flush=True)
            return 0
        with opened as file:
            about = json.loads(file.metadata()["training"])
            if about["key"] != self.key:
                return 0
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safetensors files are no dictionaries
        for name, module in self.modules.items():
            module.load_state_dict(_under(tensors, name))
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in _under(tensors, name).items():
                index, slot = key.split("/")
                state.setdefault(int(index), {})[slot] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
            _lay_out(optimizer)
        self.history, self.skipped = about["history"], about["skipped"]
        if 0 < about["step"] < self.steps:
            print(
                f"{self.name}: going on from the checkpoint at step {about['step']} of {self.steps}",
                flush=True,
            )
        return int(about["step"])


def step_if_finite(
    loss: torch.Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float = 5.0
) -> float:
    """Backward, clip, step; a non-finite loss or gradient changes no weight, and is nan. Returns the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    if not torch.isfinite(norm + loss.detach()):
        return math.nan
    optimizer.step()
    return float(loss.detach())


def set_rate(optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int, warmup: int = 50) -> None:
    """Linear warm-up, then half a cosine to a twentieth of the peak; a group may be `faster` by a factor."""
    rate = (
        (step + 1) / warmup
        if step < warmup
        else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    )
    for group in optimizer.param_groups:
        group["lr"] = peak * rate * group.get("faster", 1.0)


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Slots lie in memory as their parameter does (a file knows one order only): a fused step reads both in order."""
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                slots[name] = torch.empty_like(parameter).copy_(value)


def _under(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {
        key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")
    }
