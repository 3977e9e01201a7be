"""Learned environments as a perturbation of training batches, and of single recordings."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from metavox.audio.features import LogMel, extract
from metavox.audio.perturb import LOG_FLOOR, Perturb
from metavox.audio.render import render
from metavox.recognisers.conformer import frame_mask
from metavox.training.gan.generator import Environment
from metavox.training.gan.monitor import latents


@dataclass(frozen=True)
class Environments:
    """Moves a share of the items of a batch into learned environments, each into its own, then perturbs all with `then`."""

    generator: Environment
    share: float
    then: Perturb

    def scaled(self, strength: float) -> "Environments":
        return replace(self, share=self.share * strength, then=self.then.scaled(strength))

    def __call__(
        self, mels: torch.Tensor, lengths: torch.Tensor, random: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Perturb log-mels (batch, time, mel) of lengths (batch,); returns both."""
        selected = torch.rand(len(mels), generator=random) < self.share
        if selected.any():
            latent = latents(self.generator, int(selected.sum()), random)
            # Padding is 0, which is louder than speech, and the noise floor is relative to the loudest frame.
            mels = mels.masked_fill(~frame_mask(lengths, mels.shape[1]).unsqueeze(2), LOG_FLOOR)
            with torch.no_grad():
                mels[selected] = self.generator(mels[selected], latent, random=random)
        return self.then(mels, lengths, random)


@dataclass(frozen=True)
class SampleEnvironments:
    """Moves a share of the recordings into learned environments, each into its own."""

    generator: Environment
    share: float = 0.3

    def __call__(self, samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Samples (time,) at the generator's sample rate: unchanged, or with the same level and length in an environment."""
        if random.random() >= self.share:
            return samples
        latent_random = torch.Generator().manual_seed(int(random.integers(2**63)))
        transform = LogMel(self.generator.config.features)
        with torch.inference_mode():
            generated = self.generator(
                extract(samples, transform)[None],
                latents(self.generator, 1, latent_random),
                random=latent_random,
            )[0]
        return render(samples, generated, transform)
