"""The game: a discriminator of statistics against the generator.

Loss: relativistic pairing with gradient penalties on both sides, R1 and R2, which converges locally without tricks
(Huang et al. 2024, "The GAN is dead; long live the GAN!", section 2), and a content loss.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from metavox.training.gan.generator import Environment
from metavox.training.gan.monitor import latents
from metavox.training.gan.statistics import content_loss, statistics
from metavox.training.loop import step_if_finite

CHAIN_FASTER = 10.0  # than the rate, of the generator's convolution


class Discriminator(nn.Module):
    """Statistics (batch, numbers) to one logit each: are they of a recording from the adverse set?

    `begin` sets what the numbers are measured by.
    """

    centre: torch.Tensor
    size: torch.Tensor

    def __init__(self, numbers: int, hidden: int = 96):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(numbers, hidden), nn.LeakyReLU(0.2))
        self.rest = nn.Sequential(nn.Linear(hidden + 1, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))
        self.register_buffer("centre", torch.zeros(numbers))
        self.register_buffer("size", torch.ones(numbers))

    def begin(self, found: torch.Tensor) -> None:
        self.centre.copy_(found.mean(dim=0))
        self.size.copy_(found.std(dim=0).clamp_min(0.25))

    def scaled(self, found: torch.Tensor) -> torch.Tensor:
        return (found - self.centre) / self.size

    def forward(self, scaled: torch.Tensor) -> torch.Tensor:
        x = self.first(scaled)
        # How much a batch differs within itself (Karras et al. 2018, section 3): environments that are all alike are seen.
        alike = x.std(dim=0).mean().expand(len(x), 1)
        return self.rest(torch.cat([x, alike], dim=1)).squeeze(1)


@dataclass
class EnvironmentGan:
    """Both networks, their optimizers and the losses of one step."""

    generator: Environment
    learning_rate: float = 1e-3
    penalty: float = 20.0
    content: float = 1.0
    discriminator: Discriminator = field(init=False)

    def __post_init__(self) -> None:
        self.discriminator = Discriminator(9 * self.generator.config.mels)
        rate, betas = self.learning_rate, (0.5, 0.9)
        # Settings are nepers, and have nepers to go; the convolution's weights are small numbers.
        chain = [
            self.generator.places,
            *self.generator.spread.parameters(),
            *self.generator.bend.parameters(),
        ]
        rest = [*self.generator.detail.parameters(), *self.generator.style.parameters()]
        groups: list[dict[str, Any]] = [{"params": chain, "lr": CHAIN_FASTER * rate}, {"params": rest}]
        self.generator_optimizer = torch.optim.Adam(groups, rate, betas)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), 2 * rate, betas)

    def begin(self, clean: torch.Tensor, adverse: torch.Tensor) -> None:
        """From many crops (clips, time, mel) of each side: where the game starts."""
        self.generator.begin(clean, adverse)
        self.discriminator.begin(statistics(adverse))

    def step(self, clean: torch.Tensor, adverse: torch.Tensor, random: torch.Generator) -> dict[str, float]:
        """Unpaired crops (batch, time, mel) of clean and of adverse recordings; one update of each network."""
        latent = latents(self.generator, len(clean), random)
        real = self.discriminator.scaled(statistics(adverse))
        moved = self.generator(clean, latent, random=random)
        fake = self.discriminator.scaled(statistics(moved))
        d_loss = self._discriminate(fake.detach(), real)
        fool = F.softplus(self.discriminator(real) - self.discriminator(fake)).mean()
        content = content_loss(clean, moved)
        loss = fool + self.content * content
        step_if_finite(loss, self.generator_optimizer, list(self.generator.parameters()))
        return {
            "generator": float(fool.detach()),
            "discriminator": d_loss,
            "content": float(content.detach()),
        }

    def _discriminate(self, fake: torch.Tensor, real: torch.Tensor) -> float:
        fake, real = fake.detach().requires_grad_(True), real.detach().requires_grad_(True)
        on_fake, on_real = self.discriminator(fake), self.discriminator(real)
        loss = F.softplus(on_fake - on_real).mean()
        slopes = torch.autograd.grad(on_fake.sum() + on_real.sum(), (fake, real), create_graph=True)
        steep = sum(slope.square().sum(dim=1).mean() for slope in slopes)
        step_if_finite(
            loss + 0.5 * self.penalty * steep,
            self.discriminator_optimizer,
            list(self.discriminator.parameters()),
        )
        return float(loss.detach())
