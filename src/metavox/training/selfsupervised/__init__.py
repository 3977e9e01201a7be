"""Self-supervised pretraining: what an encoder can learn from speech without text or the names of speakers.

`masked` fills in hidden time and frequency, `apc` foretells the next frames, `bestrq` names the hidden stretches'
entries in a random codebook. Each is a module of (log-mels, lengths, random generator) to a loss, over one encoder.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from metavox.audio.perturb import Perturb, Perturbation
from metavox.dataset.batches import EndlessBatches
from metavox.dataset.store import Store
from metavox.recognisers.conformer import Encoder
from metavox.training.device import Compute
from metavox.training.selfsupervised.apc import AutoregressivePrediction
from metavox.training.selfsupervised.bestrq import MaskedCodes
from metavox.training.selfsupervised.masked import MaskedReconstruction, Masking

__all__ = ["CHANNELS", "Batches", "Masking", "Objective", "PretrainTask", "make_objective", "stored"]

Objective = Literal["masked", "apc", "bestrq"]
Batches = Callable[
    [int], tuple[torch.Tensor, torch.Tensor]
]  # a step's log-mels (batch, time, mel) and lengths

# The channel is perturbed before anything is hidden, so that the target holds it too.
CHANNELS = Perturbation(mask_chance=0.0)


def make_objective(name: Objective, encoder: Encoder, masking: Masking) -> nn.Module:
    """The objective's module, which holds the encoder; `masking` is not used by apc."""
    if name == "apc":
        return AutoregressivePrediction(encoder)
    return MaskedReconstruction(encoder, masking) if name == "masked" else MaskedCodes(encoder, masking)


def stored(store: Store, budget: int, seed: int) -> Batches:
    """Batches of prepared speech, of about `budget` frames each."""
    draw = EndlessBatches(store.frames, budget, seed)
    return lambda step: store.batch(draw(step))


class PretrainTask:
    """Loss of one step on unlabelled speech: a `Stream`'s or a store's (`stored`)."""

    def __init__(
        self,
        objective: nn.Module,
        speech: Batches,
        compute: Compute | None = None,
        channels: Perturb = CHANNELS,
    ):
        self.compute = compute or Compute()
        self.model = self.compute.place(objective)
        self._speech, self._channels = speech, channels

    def __call__(self, step: int, random: torch.Generator) -> torch.Tensor:
        return self._loss(*self._channels(*self._speech(step), random), random)

    def evaluate(self, store: Store, budget: int, batches: int = 8) -> float:
        """Mean loss on other speech, the same masks or cuts each time."""
        speech = stored(store, budget, seed=0)
        self.model.eval()
        with torch.inference_mode():
            losses = [float(self._loss(*speech(i), torch.Generator().manual_seed(i))) for i in range(batches)]
        self.model.train()
        return sum(losses) / len(losses)

    def _loss(self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        with self.compute.autocast():
            loss: torch.Tensor = self.model(*self.compute.move(mels, lengths), random)
        return loss
