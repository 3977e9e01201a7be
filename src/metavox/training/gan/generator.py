"""The generator: a recording chain whose settings are drawn from a latent.

Speech rings in a room, noise joins it, a microphone and a codec colour both, and a small convolution makes up for what
these miss. A chain cannot swap words, so content is kept by construction as well as by a loss.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from metavox.audio.features import FeatureConfig
from metavox.audio.perturb import LOG_FLOOR
from metavox.errors import UserError
from metavox.training.gan.statistics import levels

TAIL = 24  # frames of decay
SWAY = 25  # frames over which a noise comes and goes
SHARP = 12.0  # of the choice among places: most latents are in one of them


@dataclass(frozen=True)
class GeneratorConfig:
    features: FeatureConfig = field(default_factory=FeatureConfig)
    latent: int = 16
    hidden: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self.features.without_extras)  # rooms are heard in log-mels

    @property
    def mels(self) -> int:
        return self.features.mels


class Environment(nn.Module):
    """Log-mels (batch, time, mel) and latents (batch, latent) to log-mels in an environment.

    One latent is one environment; standard normal latents are as likely as the environments that were learned from.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        settings = 4 * config.mels + 2
        self.places = nn.Parameter(torch.zeros(_leaves(config.latent), settings))
        self.spread = nn.Linear(config.latent, settings)
        end = nn.Linear(config.hidden, settings)
        self.bend = nn.Sequential(
            nn.Linear(config.latent, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            end,
        )
        last = nn.Conv2d(12, 1, 3, padding=1)
        self.detail = nn.Sequential(nn.Conv2d(1 + 1, 12, 3, padding=1), nn.SiLU(), last)
        self.style = nn.Linear(config.latent, 1)
        for part in (*end.parameters(), *last.parameters(), self.spread.bias):
            nn.init.zeros_(part)
        with torch.no_grad():
            self.spread.weight.normal_(0, 0.15)
            self.spread.bias[self._places()["floor"]] = -9.0
            self.spread.bias[self._places()["room"]] = -8.0

    def _places(self) -> dict[str, slice]:
        """Where among the settings each kind is."""
        m = self.config.mels
        names = ("curve", "floor", "room", "decay")
        return {name: slice(i * m, (i + 1) * m) for i, name in enumerate(names)} | {
            "noise": slice(4 * m, 4 * m + 2)
        }

    @torch.no_grad()
    def begin(self, clean: torch.Tensor, adverse: torch.Tensor, rounds: int = 6) -> None:
        """Set curves and noise floors so that places differ as the recordings do.

        Crops (clips, time, mel) of both sides, which need not be pairs. The recordings are halved again and again into as
        many places as there are; each place begins as the mean of its part, within it they differ as parts do, less what
        clean clips differ by among themselves, which is speech. Then what comes out is compared, and settings corrected.
        """
        wanted = _colour(adverse)
        part = _halved(wanted, len(self.places))
        means = torch.stack([wanted[part == i].mean(dim=0) for i in range(len(self.places))])
        covariance = torch.cov((wanted - means[part]).T)
        covariance[: self.config.mels, : self.config.mels] -= torch.cov(
            _colour(clean)[:, : self.config.mels].T
        )
        values, vectors = torch.linalg.eigh(covariance.double())
        kept = min(self.config.latent, len(values))
        chosen = slice(0, 2 * self.config.mels)
        self.spread.weight[chosen, :kept] = (vectors * values.clamp_min(0).sqrt())[:, -kept:].flip(1).float()
        self.places[:, chosen] = means
        self.places[:, : self.config.mels] -= _colour(clean)[:, : self.config.mels].mean(dim=0)
        for _ in range(rounds):
            latent = torch.randn(len(clean), self.config.latent)
            place = latent[:, : len(self.places)].argmax(dim=1)
            came = _colour(self(clean, latent))
            for i in place.unique():
                self.places[i, chosen] += 0.7 * (means[i] - came[place == i].mean(dim=0))

    def forward(
        self,
        mels: torch.Tensor,
        latent: torch.Tensor,
        intensity: float = 1.0,
        random: torch.Generator | None = None,
    ) -> torch.Tensor:
        """`intensity` 0 gives the input back, 1 the environment, between them a mixture in log power."""
        which = (SHARP * latent[:, : len(self.places)]).softmax(dim=1)
        settings = (which @ self.places + self.spread(latent) + self.bend(latent)).unsqueeze(1)
        curve, floor, room, decay, noise = (settings[..., place] for place in self._places().values())
        out = self._reverberate(mels, room.squeeze(1), decay.squeeze(1)) + curve
        loudest = out.clamp_min(LOG_FLOOR).mean(dim=2).amax(dim=1)[:, None, None]
        out = torch.logaddexp(out, loudest + floor + self._flicker(mels, noise, random))
        hint = self.style(latent)[:, :, None, None].expand(-1, 1, *mels.shape[1:])
        seen = torch.cat([(out.unsqueeze(1) - loudest.unsqueeze(1)) / 8.0, hint], dim=1)
        return torch.lerp(mels, out + self.detail(seen).squeeze(1), intensity).clamp_min(LOG_FLOOR)

    def _flicker(
        self, mels: torch.Tensor, noise: torch.Tensor, random: torch.Generator | None
    ) -> torch.Tensor:
        """What a noise does over time, in nepers: each band for itself, and slowly all of them; noise (batch, 1, 2)."""
        batch, time, bands = mels.shape
        fast = torch.randn(batch, time, bands, generator=random)
        slow = F.avg_pool1d(torch.randn(batch, 1, time + SWAY - 1, generator=random) * SWAY**0.5, SWAY, 1)
        quick, sway = F.softplus(noise).chunk(2, dim=2)
        return quick * 0.8 * fast + sway * 0.5 * slow.transpose(1, 2)

    def _reverberate(self, mels: torch.Tensor, room: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
        """Each band rings for itself: level and rate of its tail, (batch, mel) each."""
        batch, time, bands = mels.shape
        lag = torch.arange(1, TAIL + 1, device=mels.device)
        tail = torch.sigmoid(room)[..., None] * torch.exp(
            -lag / (2.0 + 6.0 * torch.sigmoid(decay))[..., None]
        )
        kernel = torch.cat([tail.flip(2), torch.ones_like(tail[..., :1])], dim=2)
        peak = mels.amax(dim=(1, 2), keepdim=True)
        power = (mels - peak).exp().transpose(1, 2).reshape(1, batch * bands, time)
        wet = F.conv1d(F.pad(power, (TAIL, 0)), kernel.reshape(batch * bands, 1, -1), groups=batch * bands)
        return wet.reshape(batch, bands, time).transpose(1, 2).clamp_min(1e-9).log() + peak


def _colour(mels: torch.Tensor) -> torch.Tensor:
    """(clips, time, mel) -> (clips, 2 * mel): the loud frames of each band, and its floor under the loudest frame."""
    found = levels(mels)
    return torch.cat([found[:, -1], found[:, 0] - mels.mean(dim=2).amax(dim=1, keepdim=True)], dim=1)


def _leaves(latent: int) -> int:
    return 1 << (latent.bit_length() - 1)


def _halved(found: torch.Tensor, parts: int) -> torch.Tensor:
    """Items (items, numbers) -> the number of its part for each: halved again and again where they differ most."""
    leaf = torch.zeros(len(found), dtype=torch.long)
    if parts == 1:
        return leaf
    centred = (found - found.mean(dim=0)).double()
    along = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]
    upper = along.argsort().argsort() >= len(found) // 2
    for side, first in ((~upper, 0), (upper, parts // 2)):
        leaf[side] = first + _halved(found[side], parts // 2)
    return leaf


def save_generator(generator: Environment, folder: Path) -> None:
    save_file(
        {k: v.contiguous() for k, v in generator.state_dict().items()}, folder / "generator.safetensors"
    )
    about = asdict(generator.config) | {"features": generator.config.features.as_dict()}
    (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n")


def load_generator(folder: Path, features: FeatureConfig | None = None) -> Environment:
    """Raises UserError when the folder holds no whole generator, or one of other `features`."""
    try:
        values = json.loads((folder / "config.json").read_text())
        config = GeneratorConfig(**{**values, "features": FeatureConfig(**values["features"])})
        generator = Environment(config)
        generator.load_state_dict(load_file(folder / "generator.safetensors"))
    except (OSError, ValueError, TypeError, KeyError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{folder}: no environment generator there ({error}); run `metavox stage augment` or `metavox augment learn`"
        ) from error
    if features and config.features != features.without_extras:
        raise UserError(
            f"{folder}: its environments are of {config.features.as_dict()}, expected {features.as_dict()}; learn them again"
        )
    return generator.eval()
