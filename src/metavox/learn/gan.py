"""The environment GAN: what a clean utterance would sound like in another room, on another line.

The generator is a recording chain with the parameters left open: a curve over bands (microphone, codec),
a decay a band (room), a noise floor, and a small convolution for what these miss. Each is drawn from a
latent. A chain cannot swap words, so content is kept by construction as well as by a loss. The
discriminator sees crops of generated and of real adverse recordings, which need not be pairs. Loss:
non-saturating with R1 gradient penalty (Mescheder et al. 2018).
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from metavox.audio.perturb import LOG_FLOOR, Perturb
from metavox.errors import UserError
from metavox.learn.loop import step_if_finite
from metavox.model.frames import frame_mask

TAIL = 24  # frames of decay


@dataclass(frozen=True)
class GeneratorConfig:
    mels: int = 64
    latent: int = 16
    hidden: int = 64


class Environment(nn.Module):
    """Generator: log-mels (batch, time, mel) and latents (batch, latent) to log-mels in an environment."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.chain = nn.Sequential(
            nn.Linear(config.latent, config.hidden), nn.SiLU(),
            nn.Linear(config.hidden, config.hidden), nn.SiLU(),
            nn.Linear(config.hidden, 4 * config.mels),
        )  # fmt: skip
        last = nn.Conv2d(12, 1, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.detail = nn.Sequential(nn.Conv2d(1 + 1, 12, 3, padding=1), nn.SiLU(), last)
        self.style = nn.Linear(config.latent, 1)

    def forward(self, mels: torch.Tensor, latent: torch.Tensor, intensity: float = 1.0) -> torch.Tensor:
        """`intensity` 0 gives the input back, 1 the environment, between them a mixture in log power."""
        curve, level, room, floor = self.chain(latent).unsqueeze(1).chunk(4, dim=2)
        wet = self._reverberate(mels, room.squeeze(1))
        out = wet + 3.0 * curve
        loudest = out.mean(dim=2).amax(dim=1)[:, None, None]
        # The floor lies some 6 to 60 dB under the loudest frame and flickers as noise does.
        noise = loudest - 7.0 + 3.0 * floor + 0.4 * torch.randn_like(mels) * (1 + torch.tanh(level))
        out = torch.logaddexp(out, noise)
        hint = self.style(latent)[:, :, None, None].expand(-1, 1, *mels.shape[1:])
        out = out + self.detail(
            torch.cat([(out.unsqueeze(1) - loudest.unsqueeze(1)) / 8.0, hint], dim=1)
        ).squeeze(1)
        return torch.lerp(mels, out, intensity).clamp_min(LOG_FLOOR)

    def _reverberate(self, mels: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
        """Each band decays at a rate of its own: room (batch, mel) -> log-mels with a tail."""
        batch, time, bands = mels.shape
        lag = torch.arange(1, TAIL + 1, device=mels.device)
        tail = torch.sigmoid(room - 3.0)[..., None] * torch.exp(
            -lag / (2.0 + 4.0 * torch.sigmoid(room))[..., None]
        )
        kernel = torch.cat([tail.flip(2), torch.ones_like(tail[..., :1])], dim=2)
        peak = mels.amax(dim=(1, 2), keepdim=True)
        power = (mels - peak).exp().transpose(1, 2).reshape(1, batch * bands, time)
        wet = F.conv1d(F.pad(power, (TAIL, 0)), kernel.reshape(batch * bands, 1, -1), groups=batch * bands)
        return wet.reshape(batch, bands, time).transpose(1, 2).clamp_min(1e-9).log() + peak


class Discriminator(nn.Module):
    """Log-mel crops (batch, time, mel) to one logit each: is it a recording from the adverse set?"""

    def __init__(self, mels: int, channels: int = 24):
        super().__init__()
        c = channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, c, (3, 5), stride=(2, 2), padding=(1, 2)), nn.LeakyReLU(0.2),
            nn.Conv2d(c, 2 * c, (3, 5), stride=(2, 2), padding=(1, 2)), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * c, 2 * c, (3, 5), stride=(2, 2), padding=(1, 2)), nn.LeakyReLU(0.2),
        )  # fmt: skip
        # Statistics over time say what the channel is, and little of what was said.
        self.out = nn.Linear(2 * (2 * c) * math.ceil(mels / 8), 1)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        x = (mels - mels.mean(dim=2, keepdim=True).amax(dim=1, keepdim=True)) / 8.0
        x = self.layers(x.unsqueeze(1)).permute(0, 2, 1, 3).flatten(2)
        return self.out(
            torch.cat([x.mean(dim=1), x.var(dim=1, unbiased=False).add(1e-4).sqrt()], dim=1)
        ).squeeze(1)


@dataclass
class EnvironmentGan:
    """Both networks, their optimizers and the losses of one step."""

    generator: Environment
    discriminator: Discriminator
    learning_rate: float = 5e-4
    penalty: float = 1.0
    content: float = 2.0

    def __post_init__(self) -> None:
        rate, betas = self.learning_rate, (0.5, 0.9)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), rate, betas)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), rate / 2, betas)

    def step(self, clean: torch.Tensor, adverse: torch.Tensor, random: torch.Generator) -> dict[str, float]:
        """Unpaired crops (batch, time, mel) of clean and of adverse recordings; one update of each network."""
        latent = torch.randn(len(clean), self.generator.config.latent, generator=random)
        d_loss = self._discriminate(self.generator(clean, latent).detach(), adverse)
        fake = self.generator(clean, latent)
        fool = F.softplus(-self.discriminator(fake)).mean()
        content = content_loss(clean, fake)
        loss = fool + self.content * content
        step_if_finite(loss, self.generator_optimizer, list(self.generator.parameters()))
        return {
            "generator": float(fool.detach()),
            "discriminator": d_loss,
            "content": float(content.detach()),
        }

    def _discriminate(self, fake: torch.Tensor, real: torch.Tensor) -> float:
        real = real.detach().requires_grad_(True)
        on_real = self.discriminator(real)
        loss = F.softplus(-on_real).mean() + F.softplus(self.discriminator(fake)).mean()
        (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
        total = loss + 0.5 * self.penalty * slope.square().sum(dim=(1, 2)).mean()
        step_if_finite(total, self.discriminator_optimizer, list(self.discriminator.parameters()))
        return float(loss.detach())


def content_loss(clean: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """One minus the correlation over time, band by band, where the clean utterance is loud: (batch, time, mel).

    A curve over bands changes nothing here; other words would.
    """
    weight = ((clean - clean.amax(dim=(1, 2), keepdim=True)) / 4.0).exp()
    a = clean - (weight * clean).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    b = other - (weight * other).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
    dot = (weight * a * b).sum(dim=(1, 2))
    size = (weight * a.square()).sum(dim=(1, 2)) * (weight * b.square()).sum(dim=(1, 2))
    return (1 - dot / size.clamp_min(1e-6).sqrt()).mean()


def spread(generator: Environment, mels: torch.Tensor, seed: int = 0, draws: int = 8) -> float:
    """How far environments differ for one utterance (nepers): near 0 the generator has collapsed to one."""
    random = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        outs = [
            generator(mels, torch.randn(len(mels), generator.config.latent, generator=random)).mean(dim=1)
            for _ in range(draws)
        ]
    return float(torch.stack(outs).std(dim=0).mean())


COLLAPSED = 0.05  # nepers between environments of one utterance
BEATEN = 0.02  # loss of a discriminator that nothing fools any more


@dataclass
class Watch:
    """Looks at a training now and then, says in one line when it goes wrong, and keeps the last good generator.

    `good` is a copy of the generator; among the modules of a `Training` it outlives a kill.
    """

    generator: Environment
    good: Environment
    mels: torch.Tensor  # (batch, time, mel) to look with
    every: int = 25
    trouble: str = ""

    def __call__(self, step: int, record: dict[str, float]) -> None:
        if (step + 1) % self.every:
            return
        width = spread(self.generator, self.mels)
        found = ""
        if not math.isfinite(width) or width < COLLAPSED:
            found = f"the generator has collapsed: its environments differ by {width:.3f} nepers"
        elif record["discriminator"] < BEATEN:
            found = f"nothing fools the discriminator any more: its loss is {record['discriminator']:.4f}"
        if not found:
            self.good.load_state_dict(self.generator.state_dict())
        elif not self.trouble:
            print(f"augment: step {step + 1}: {found}; the last good generator is kept", flush=True)
        self.trouble = found

    def settle(self) -> None:
        """After training: where it ended badly, back to the last good state."""
        if self.trouble:
            self.generator.load_state_dict(self.good.state_dict())


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Frechet distance (Dowson & Landau 1982) between the spectra of two sets of clips: (clips, time, mel) each.

    A clip's spectrum is its mean over time, relative to its loudest band; in square nepers.
    """
    x, y = ((m.mean(dim=1) - m.mean(dim=1).amax(dim=1, keepdim=True)).double().numpy() for m in (a, b))
    ridge = 1e-3 * np.eye(x.shape[1])
    cx, cy = np.cov(x.T) + ridge, np.cov(y.T) + ridge
    root = scipy.linalg.sqrtm(cx @ cy)
    return float(np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.trace(cx + cy - 2 * np.real(root)))


@dataclass(frozen=True)
class Environments:
    """A perturbation: a share of the items is moved into a learned environment, then all are perturbed by `then`."""

    generator: Environment
    share: float
    then: Perturb

    def scaled(self, strength: float) -> "Environments":
        return Environments(self.generator, self.share * strength, self.then.scaled(strength))

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mels (batch, time, mel), lengths (batch,)."""
        chosen = torch.rand(len(mels), generator=random) < self.share
        if chosen.any():
            latent = torch.randn(int(chosen.sum()), self.generator.config.latent, generator=random)
            # Padding is zero, which is louder than speech, and the noise floor follows the loudest frame.
            mels = mels.masked_fill(~frame_mask(lengths, mels.shape[1]).unsqueeze(2), LOG_FLOOR)
            with torch.no_grad():
                mels[chosen] = self.generator(mels[chosen], latent)
        return self.then(mels, lengths, random)


def save_generator(generator: Environment, folder: Path) -> None:
    save_file(
        {k: v.contiguous() for k, v in generator.state_dict().items()}, folder / "generator.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(asdict(generator.config), indent=2) + "\n")


def load_generator(folder: Path) -> Environment:
    """Raises UserError when the folder holds no whole generator."""
    try:
        generator = Environment(GeneratorConfig(**json.loads((folder / "config.json").read_text())))
        generator.load_state_dict(load_file(folder / "generator.safetensors"))
    except (OSError, ValueError, TypeError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{folder}: no environment generator there ({error}); run `metavox stage augment`"
        ) from error
    return generator.eval()
