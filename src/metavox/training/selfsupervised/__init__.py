"""Self-supervised pretraining of an encoder on speech without text or speaker labels.

`masked` reconstructs masked time and frequency, `apc` predicts the next frames, and `bestrq` classifies masked segments
by their entries in a random codebook. Each objective is a module around an encoder that maps log-mels, lengths and a
random generator to a loss.
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
from metavox.training.distributed import ALONE, Ranks
from metavox.training.selfsupervised.apc import AutoregressivePrediction
from metavox.training.selfsupervised.bestrq import MaskedCodes
from metavox.training.selfsupervised.masked import MaskedReconstruction, Masking

__all__ = ["CHANNELS", "Batches", "Masking", "Objective", "PretrainTask", "make_objective", "store_batches"]

Objective = Literal["masked", "apc", "bestrq"]
Batches = Callable[
    [int], tuple[torch.Tensor, torch.Tensor]
]  # a step's log-mels (batch, time, mel) and lengths

# The channel is perturbed before masking, so that the target includes the perturbation.
CHANNELS = Perturbation(mask_chance=0.0)


def make_objective(name: Objective, encoder: Encoder, masking: Masking) -> nn.Module:
    """The module of an objective around `encoder`; `apc` does not use `masking`."""
    if name == "apc":
        return AutoregressivePrediction(encoder)
    return MaskedReconstruction(encoder, masking) if name == "masked" else MaskedCodes(encoder, masking)


def store_batches(store: Store, budget: int, seed: int) -> Batches:
    """Batches of the prepared speech in a store, of about `budget` frames each."""
    draw = EndlessBatches(store.frames, budget, seed)
    return lambda step: store.batch(draw(step))


class PretrainTask:
    """The loss of one step on unlabelled speech, from a `Stream` or a store (see `store_batches`); of several processes,
    this one's summand of it."""

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
        random = self.compute.ranks.random(random)
        return self._loss(*self._channels(*self._speech(step), random), random, self.compute.ranks)

    def evaluate(self, store: Store, budget: int, batches: int = 8) -> float:
        """Mean loss on the speech of `store`, always with the same masks or cuts."""
        speech = store_batches(store, budget, seed=0)
        self.model.eval()
        with torch.inference_mode():
            losses = [float(self._loss(*speech(i), torch.Generator().manual_seed(i))) for i in range(batches)]
        self.model.train()
        return sum(losses) / len(losses)

    def _loss(
        self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator, ranks: Ranks = ALONE
    ) -> torch.Tensor:
        with self.compute.autocast():
            loss: torch.Tensor = self.model(*self.compute.move(mels, lengths), random, ranks)
        return loss
