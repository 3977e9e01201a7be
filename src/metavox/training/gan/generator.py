"""The generator: a recording chain whose settings are computed from a latent.

The chain adds the reverberation of a room and noise, colours both as a microphone and a codec do, and models the rest
with a small convolution. Such a chain cannot change the words, so the content is preserved by construction as well as
by a loss.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from metavox.audio.perturb import LOG_FLOOR
from metavox.config import FeatureConfig, read
from metavox.errors import UserError
from metavox.training.gan.statistics import levels

TAIL_FRAMES = 24  # length of the reverberation
SLOW_NOISE_FRAMES = 25  # over which the slow part of the noise level varies
CLUSTER_SHARPNESS = 12.0  # softmax factor; so high that most latents belong to a single cluster


@dataclass(frozen=True)
class GeneratorConfig:
    features: FeatureConfig = field(default_factory=FeatureConfig)
    latent: int = 16
    hidden: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "features", self.features.without_extras
        )  # environments are learned on log-mels alone

    @property
    def mels(self) -> int:
        return self.features.mels


class Environment(nn.Module):
    """Moves log-mels (batch, time, mel) into the environments of latents (batch, latent).

    Each latent is one environment; standard normal latents follow the distribution of the training environments.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        settings = 4 * config.mels + 2
        self.clusters = nn.Parameter(torch.zeros(_cluster_count(config.latent), settings))
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
        for weight in (*end.parameters(), *last.parameters(), self.spread.bias):
            nn.init.zeros_(weight)
        with torch.no_grad():
            self.spread.weight.normal_(0, 0.15)
            self.spread.bias[self._setting_slices()["floor"]] = -9.0
            self.spread.bias[self._setting_slices()["room"]] = -8.0

    def _setting_slices(self) -> dict[str, slice]:
        """The position of each kind of setting."""
        m = self.config.mels
        names = ("curve", "floor", "room", "decay")
        return {name: slice(i * m, (i + 1) * m) for i, name in enumerate(names)} | {
            "noise": slice(4 * m, 4 * m + 2)
        }

    @torch.no_grad()
    def initialise(self, clean: torch.Tensor, adverse: torch.Tensor, rounds: int = 6) -> None:
        """Initialise frequency responses and noise floors from unpaired crops (clips, time, mel) of both kinds.

        The adverse recordings are bisected recursively into as many groups as there are clusters. Each cluster starts at
        the mean of its group; the spread within a cluster is the covariance within the groups, minus that of clean
        speech, which comes from the speech itself. Finally, the settings are corrected in several `rounds` by the
        difference between the generated and the recorded means.
        """
        targets = _colouration(adverse)
        group = _bisect(targets, len(self.clusters))
        means = torch.stack([targets[group == i].mean(dim=0) for i in range(len(self.clusters))])
        covariance = torch.cov((targets - means[group]).T)
        covariance[: self.config.mels, : self.config.mels] -= torch.cov(
            _colouration(clean)[:, : self.config.mels].T
        )
        values, vectors = torch.linalg.eigh(covariance.double())
        rank = min(self.config.latent, len(values))
        learned = slice(0, 2 * self.config.mels)
        self.spread.weight[learned, :rank] = (vectors * values.clamp_min(0).sqrt())[:, -rank:].flip(1).float()
        self.clusters[:, learned] = means
        self.clusters[:, : self.config.mels] -= _colouration(clean)[:, : self.config.mels].mean(dim=0)
        for _ in range(rounds):
            latent = torch.randn(len(clean), self.config.latent)
            cluster = latent[:, : len(self.clusters)].argmax(dim=1)
            produced = _colouration(self(clean, latent))
            for i in cluster.unique():
                self.clusters[i, learned] += 0.7 * (means[i] - produced[cluster == i].mean(dim=0))

    def forward(
        self,
        mels: torch.Tensor,
        latent: torch.Tensor,
        intensity: float = 1.0,
        random: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Move log-mels into environments. An `intensity` of 0 returns the input, 1 the full environment, and values in
        between interpolate in log power."""
        assignment = (CLUSTER_SHARPNESS * latent[:, : len(self.clusters)]).softmax(dim=1)
        settings = (assignment @ self.clusters + self.spread(latent) + self.bend(latent)).unsqueeze(1)
        curve, floor, room, decay, noise = (
            settings[..., cluster] for cluster in self._setting_slices().values()
        )
        out = self._reverberate(mels, room.squeeze(1), decay.squeeze(1)) + curve
        loudest = out.clamp_min(LOG_FLOOR).mean(dim=2).amax(dim=1)[:, None, None]
        out = torch.logaddexp(out, loudest + floor + self._flicker(mels, noise, random))
        hint = self.style(latent)[:, :, None, None].expand(-1, 1, *mels.shape[1:])
        detail_input = torch.cat([(out.unsqueeze(1) - loudest.unsqueeze(1)) / 8.0, hint], dim=1)
        return torch.lerp(mels, out + self.detail(detail_input).squeeze(1), intensity).clamp_min(LOG_FLOOR)

    def _flicker(
        self, mels: torch.Tensor, noise: torch.Tensor, random: torch.Generator | None
    ) -> torch.Tensor:
        """The variation of the noise level (batch, time, mel), in nepers: fast and independent in each band, plus slow
        and common to all bands. `noise` (batch, 1, 2) holds the sizes of both."""
        batch, time, bands = mels.shape
        per_band = torch.randn(batch, time, bands, generator=random)
        all_bands = F.avg_pool1d(
            torch.randn(batch, 1, time + SLOW_NOISE_FRAMES - 1, generator=random) * SLOW_NOISE_FRAMES**0.5,
            SLOW_NOISE_FRAMES,
            1,
        )
        fast_level, slow_level = F.softplus(noise).chunk(2, dim=2)
        return fast_level * 0.8 * per_band + slow_level * 0.5 * all_bands.transpose(1, 2)

    def _reverberate(self, mels: torch.Tensor, room: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
        """Add a reverberation tail to each band; `room` is its level and `decay` its rate, both (batch, mel)."""
        batch, time, bands = mels.shape
        lag = torch.arange(1, TAIL_FRAMES + 1, device=mels.device)
        tail = torch.sigmoid(room)[..., None] * torch.exp(
            -lag / (2.0 + 6.0 * torch.sigmoid(decay))[..., None]
        )
        kernel = torch.cat([tail.flip(2), torch.ones_like(tail[..., :1])], dim=2)
        peak = mels.amax(dim=(1, 2), keepdim=True)
        power = (mels - peak).exp().transpose(1, 2).reshape(1, batch * bands, time)
        wet = F.conv1d(
            F.pad(power, (TAIL_FRAMES, 0)), kernel.reshape(batch * bands, 1, -1), groups=batch * bands
        )
        return wet.reshape(batch, bands, time).transpose(1, 2).clamp_min(1e-9).log() + peak


def _colouration(mels: torch.Tensor) -> torch.Tensor:
    """(clips, time, mel) -> (clips, 2 * mel): the level of loud frames in each band, and its floor relative to the loudest frame."""
    band_levels = levels(mels)
    return torch.cat(
        [band_levels[:, -1], band_levels[:, 0] - mels.mean(dim=2).amax(dim=1, keepdim=True)], dim=1
    )


def _cluster_count(latent: int) -> int:
    return 1 << (latent.bit_length() - 1)


def _bisect(points: torch.Tensor, count: int) -> torch.Tensor:
    """Group index (items,) of points (items, dim), bisected recursively along their principal axis into `count` groups."""
    index = torch.zeros(len(points), dtype=torch.long)
    if count == 1:
        return index
    centred = (points - points.mean(dim=0)).double()
    projection = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]
    above = projection.argsort().argsort() >= len(points) // 2
    for side, first in ((~above, 0), (above, count // 2)):
        index[side] = first + _bisect(points[side], count // 2)
    return index


def save_generator(generator: Environment, folder: Path) -> None:
    save_file(
        {k: v.contiguous() for k, v in generator.state_dict().items()}, folder / "generator.safetensors"
    )
    config = asdict(generator.config)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_generator(folder: Path, features: FeatureConfig | None = None) -> Environment:
    """Load a generator in evaluation mode. Raises UserError if the folder does not hold a complete one, or if it was
    trained on other `features`."""
    try:
        values = json.loads((folder / "config.json").read_text())
        config = GeneratorConfig(**{**values, "features": read(FeatureConfig, values["features"])})
        generator = Environment(config)
        weights = load_file(folder / "generator.safetensors")
        if "places" in weights:  # the old name of the clusters
            weights["clusters"] = weights.pop("places")
        generator.load_state_dict(weights)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{folder}: no environment generator found ({error}); run `metavox stage augment` or `metavox augment learn`"
        ) from error
    if features and config.features != features.without_extras:
        raise UserError(
            f"{folder}: the generator was trained on features {asdict(config.features)}, expected {asdict(features)}; train it again"
        )
    return generator.eval()
