"""What is looked at while the GAN trains: has it collapsed, has one side won, and is it nearer to the recordings?"""

import math
from dataclasses import dataclass, field

import torch

from metavox.training.gan.generator import Environment
from metavox.training.gan.statistics import distances

COLLAPSED = 0.05  # nepers between environments of one utterance
BEATEN = 0.02  # loss of a discriminator that nothing fools any more


def spread(generator: Environment, mels: torch.Tensor, seed: int = 0, draws: int = 8) -> float:
    """How far environments differ for one utterance (nepers): near 0 the generator has collapsed to one."""
    random = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        outs = [
            generator(mels, latents(generator, len(mels), random), random=random).mean(dim=1)
            for _ in range(draws)
        ]
    return float(torch.stack(outs).std(dim=0).mean())


def latents(generator: Environment, count: int, random: torch.Generator) -> torch.Tensor:
    """(count, latent): environments, drawn."""
    return torch.randn(count, generator.config.latent, generator=random)


def remoteness(
    generator: Environment, clean: torch.Tensor, adverse: torch.Tensor, seed: int = 0
) -> dict[str, float]:
    """`distances` from clean clips, moved, to recordings: crops (clips, time, mel) of both."""
    random = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return distances(generator(clean, latents(generator, len(clean), random), random=random), adverse)


@dataclass
class Watch:
    """Says in one line when a training goes wrong, and keeps the generator that came nearest to the recordings.

    `good` is a copy of the generator; among the modules of a `Training` it outlives a kill.
    """

    generator: Environment
    good: Environment
    clean: torch.Tensor  # (clips, time, mel) to look with
    adverse: torch.Tensor
    every: int = 25
    trouble: str = ""
    nearest: float = field(default=math.nan, init=False)

    def __call__(self, step: int, record: dict[str, float]) -> dict[str, float]:
        """The record, with the distance that was found last: the mean of the kinds of `distances`, square nepers."""
        if math.isnan(self.nearest):
            self.nearest = self.last = self._far(self.good)
        if (step + 1) % self.every == 0:
            self._look(step, record)
        return record | {"distance": self.last}

    def _look(self, step: int, record: dict[str, float]) -> None:
        width = spread(self.generator, self.clean[:32])
        found = ""
        if not math.isfinite(width) or width < COLLAPSED:
            found = f"the generator has collapsed: its environments differ by {width:.3f} nepers"
        elif record["discriminator"] < BEATEN:
            found = f"nothing fools the discriminator any more: its loss is {record['discriminator']:.4f}"
        else:
            self.last = self._far(self.generator)
            if self.last < self.nearest:
                self.nearest = self.last
                self.good.load_state_dict(self.generator.state_dict())
        if found and not self.trouble:
            print(f"augment: step {step + 1}: {found}; the last good generator is kept", flush=True)
        self.trouble = found

    def settle(self) -> None:
        """After training: back to the generator that came nearest."""
        self.generator.load_state_dict(self.good.state_dict())

    def _far(self, generator: Environment) -> float:
        found = remoteness(generator, self.clean, self.adverse)
        return sum(found.values()) / len(found)
