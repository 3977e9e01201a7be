"""Training of the environment GAN on unpaired recordings, and its evaluation on held-out clips."""

import copy
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from metavox.training.gan.crops import Crops
from metavox.training.gan.generator import Environment, GeneratorConfig
from metavox.training.gan.monitor import COLLAPSED, GanMonitor, distance_to_recordings, latents, spread
from metavox.training.gan.statistics import content_loss, distances
from metavox.training.gan.training import EnvironmentGan
from metavox.training.loop import Training

INITIAL_CROPS, MONITOR_CROPS = 512, 256  # crops of each kind


@dataclass(frozen=True)
class GanData:
    """Unpaired clean speech and adverse recordings, for training and held out."""

    clean: Crops
    adverse: Crops
    held_clean: Crops
    held_adverse: Crops


@dataclass(frozen=True)
class LearnedEnvironments:
    """`evaluation` holds the figures of `evaluate`; `history` has one row per step."""

    generator: Environment
    history: pd.DataFrame
    evaluation: dict[str, object]


@dataclass(frozen=True)
class GanConfig:
    """Training options. `key` identifies what the run depends on; only a checkpoint with the same key is resumed."""

    steps: int
    batch: int
    learning_rate: float
    penalty: float
    seed: int
    checkpoints: Path
    key: str


def learn_environments(
    data: GanData, generator_config: GeneratorConfig, config: GanConfig
) -> LearnedEnvironments:
    """Initialise the GAN from means and covariances, train it for `config.steps` steps, and keep the best generator."""
    torch.manual_seed(config.seed)
    random = torch.Generator().manual_seed(config.seed)
    gan = EnvironmentGan(Environment(generator_config), config.learning_rate, config.penalty)
    gan.initialise(data.clean(INITIAL_CROPS, random), data.adverse(INITIAL_CROPS, random))
    initial = copy.deepcopy(gan.generator)
    monitor = GanMonitor(
        gan.generator,
        copy.deepcopy(gan.generator),
        data.clean(MONITOR_CROPS, random),
        data.adverse(MONITOR_CROPS, random),
    )

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        record = gan.step(data.clean(config.batch, random), data.adverse(config.batch, random), random)
        return monitor(step, record)

    history = Training(
        "augment",
        {"generator": gan.generator, "discriminator": gan.discriminator, "good": monitor.best},
        {
            "generator_optimizer": gan.generator_optimizer,
            "discriminator_optimizer": gan.discriminator_optimizer,
        },
        update,
        config.steps,
        config.seed,
        config.checkpoints,
        config.key,
    ).run()
    monitor.restore_best()
    gan.generator.eval()
    return LearnedEnvironments(
        gan.generator,
        history,
        evaluate(gan.generator, initial, data, config.seed) | {"trouble": monitor.trouble},
    )


def evaluate(generator: Environment, initial: Environment, data: GanData, seed: int) -> dict[str, object]:
    """Evaluate a generator on held-out clips: content loss, spread of its environments, distance to the recordings.

    `distance` maps `clean` (clean clips), `begun` (the initial generator), `learned` (this generator) and `recordings`
    (the training recordings, a lower bound for this number of clips) to the kinds of `distances`, in square nepers.
    """
    random = torch.Generator().manual_seed(seed)
    clean, real = data.held_clean(MONITOR_CROPS, random), data.held_adverse(MONITOR_CROPS, random)
    with torch.inference_mode():
        generated = generator(clean, latents(generator, len(clean), random), random=random)
    diversity = spread(generator, clean[:32], seed)
    distance = {
        "clean": distances(clean, real),
        "begun": distance_to_recordings(initial, clean, real, seed),
        "learned": distance_to_recordings(generator, clean, real, seed),
        "recordings": distances(data.adverse(MONITOR_CROPS, random), real),
    }
    return {
        "content": round(float(content_loss(clean, generated)), 4),
        "spread": round(diversity, 4),
        "collapsed": diversity < COLLAPSED,
        "distance": {
            name: {kind: round(value, 1) for kind, value in kinds.items()} for name, kinds in distance.items()
        },
    }
