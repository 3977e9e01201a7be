"""The losses and update steps of the GAN: a discriminator of statistics against the generator.

The loss is a relativistic pairing GAN with the gradient penalties R1 and R2, which converges locally without further
tricks (Huang et al. 2024, "The GAN is dead; long live the GAN!", section 2), plus a content loss.
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

CHAIN_RATE_FACTOR = (
    10.0  # learning rate of the recording chain, relative to that of the generator's convolution
)


class Discriminator(nn.Module):
    """Maps normalised statistics (batch, inputs) to one logit each (batch,): high for recordings of the adverse set.

    `initialise` sets the mean and standard deviation with which `scaled` normalises the statistics.
    """

    centre: torch.Tensor
    size: torch.Tensor

    def __init__(self, inputs: int, hidden: int = 96):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(0.2))
        self.rest = nn.Sequential(nn.Linear(hidden + 1, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("size", torch.ones(inputs))

    def initialise(self, values: torch.Tensor) -> None:
        self.centre.copy_(values.mean(dim=0))
        self.size.copy_(values.std(dim=0).clamp_min(0.25))

    def scaled(self, values: torch.Tensor) -> torch.Tensor:
        return (values - self.centre) / self.size

    def forward(self, scaled: torch.Tensor) -> torch.Tensor:
        x = self.first(scaled)
        # Minibatch standard deviation (Karras et al. 2018, section 3), which exposes a collapsed generator.
        batch_spread = x.std(dim=0).mean().expand(len(x), 1)
        return self.rest(torch.cat([x, batch_spread], dim=1)).squeeze(1)


@dataclass
class EnvironmentGan:
    """Both networks with their optimizers; `step` updates each of them once."""

    generator: Environment
    learning_rate: float = 1e-3
    penalty: float = 20.0
    content: float = 1.0
    discriminator: Discriminator = field(init=False)

    def __post_init__(self) -> None:
        self.discriminator = Discriminator(9 * self.generator.config.mels)
        rate, betas = self.learning_rate, (0.5, 0.9)
        # Settings are in nepers and must move by nepers; the convolution's weights are small.
        chain = [
            self.generator.clusters,
            *self.generator.spread.parameters(),
            *self.generator.bend.parameters(),
        ]
        rest = [*self.generator.detail.parameters(), *self.generator.style.parameters()]
        groups: list[dict[str, Any]] = [{"params": chain, "lr": CHAIN_RATE_FACTOR * rate}, {"params": rest}]
        self.generator_optimizer = torch.optim.Adam(groups, rate, betas)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), 2 * rate, betas)

    def initialise(self, clean: torch.Tensor, adverse: torch.Tensor) -> None:
        """Initialise both networks from crops (clips, time, mel) of clean and adverse recordings."""
        self.generator.initialise(clean, adverse)
        self.discriminator.initialise(statistics(adverse))

    def step(self, clean: torch.Tensor, adverse: torch.Tensor, random: torch.Generator) -> dict[str, float]:
        """Update each network once on unpaired crops (batch, time, mel) of clean and adverse recordings; returns the losses."""
        latent = latents(self.generator, len(clean), random)
        real = self.discriminator.scaled(statistics(adverse))
        generated = self.generator(clean, latent, random=random)
        fake = self.discriminator.scaled(statistics(generated))
        d_loss = self._discriminate(fake.detach(), real)
        adversarial = F.softplus(self.discriminator(real) - self.discriminator(fake)).mean()
        content = content_loss(clean, generated)
        loss = adversarial + self.content * content
        step_if_finite(loss, self.generator_optimizer, list(self.generator.parameters()))
        return {
            "generator": float(adversarial.detach()),
            "discriminator": d_loss,
            "content": float(content.detach()),
        }

    def _discriminate(self, fake: torch.Tensor, real: torch.Tensor) -> float:
        fake, real = fake.detach().requires_grad_(True), real.detach().requires_grad_(True)
        on_fake, on_real = self.discriminator(fake), self.discriminator(real)
        loss = F.softplus(on_fake - on_real).mean()
        gradients = torch.autograd.grad(on_fake.sum() + on_real.sum(), (fake, real), create_graph=True)
        gradient_penalty = sum(gradient.square().sum(dim=1).mean() for gradient in gradients)
        step_if_finite(
            loss + 0.5 * self.penalty * gradient_penalty,
            self.discriminator_optimizer,
            list(self.discriminator.parameters()),
        )
        return float(loss.detach())
