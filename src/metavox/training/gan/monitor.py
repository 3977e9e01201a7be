"""Monitoring of GAN training: mode collapse, a discriminator that has won, and the distance to the recordings."""

import math
from dataclasses import dataclass, field

import torch

from metavox.training.gan.generator import Environment
from metavox.training.gan.statistics import distances

COLLAPSED = 0.05  # nepers of spread between environments of one utterance
DISCRIMINATOR_WON = 0.02  # loss below which the generator no longer fools the discriminator


def spread(generator: Environment, mels: torch.Tensor, seed: int = 0, draws: int = 8) -> float:
    """Standard deviation between environments of the same utterance (nepers); near 0, the generator has collapsed.

    `mels` is (batch, time, mel).
    """
    random = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        outs = [
            generator(mels, latents(generator, len(mels), random), random=random).mean(dim=1)
            for _ in range(draws)
        ]
    return float(torch.stack(outs).std(dim=0).mean())


def latents(generator: Environment, count: int, random: torch.Generator) -> torch.Tensor:
    """Draw latents (count, latent), one per environment."""
    return torch.randn(count, generator.config.latent, generator=random)


def distance_to_recordings(
    generator: Environment, clean: torch.Tensor, adverse: torch.Tensor, seed: int = 0
) -> dict[str, float]:
    """`distances` between generated clips and recordings, from crops (clips, time, mel) of clean and adverse recordings."""
    random = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return distances(generator(clean, latents(generator, len(clean), random), random=random), adverse)


@dataclass
class GanMonitor:
    """Warns in one line when training goes wrong, and keeps the generator nearest to the recordings.

    `best` is a copy of the generator; as one of the modules of a `Training`, it is saved in checkpoints.
    """

    generator: Environment
    best: Environment
    clean: torch.Tensor  # (clips, time, mel)
    adverse: torch.Tensor
    interval: int = 25
    trouble: str = ""
    best_distance: float = field(default=math.nan, init=False)

    def __call__(self, step: int, record: dict[str, float]) -> dict[str, float]:
        """Add the latest distance to the record: the mean over the kinds of `distances`, in square nepers."""
        if math.isnan(self.best_distance):
            self.best_distance = self.last_distance = self._mean_distance(self.best)
        if (step + 1) % self.interval == 0:
            self._check(step, record)
        return record | {"distance": self.last_distance}

    def _check(self, step: int, record: dict[str, float]) -> None:
        diversity = spread(self.generator, self.clean[:32])
        problem = ""
        if not math.isfinite(diversity) or diversity < COLLAPSED:
            problem = f"the generator has collapsed: its environments differ by {diversity:.3f} nepers"
        elif record["discriminator"] < DISCRIMINATOR_WON:
            problem = f"the discriminator has won: its loss is {record['discriminator']:.4f}"
        else:
            self.last_distance = self._mean_distance(self.generator)
            if self.last_distance < self.best_distance:
                self.best_distance = self.last_distance
                self.best.load_state_dict(self.generator.state_dict())
        if problem and not self.trouble:
            print(f"augment: step {step + 1}: {problem}; the best generator so far is kept", flush=True)
        self.trouble = problem

    def restore_best(self) -> None:
        """Restore the generator that was nearest to the recordings."""
        self.generator.load_state_dict(self.best.state_dict())

    def _mean_distance(self, generator: Environment) -> float:
        by_kind = distance_to_recordings(generator, self.clean, self.adverse)
        return sum(by_kind.values()) / len(by_kind)
