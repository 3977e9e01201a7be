"""One learning of environments, from two sides of unpaired speech to a generator and what held-out clips say of it."""

import copy
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from metavox.training.gan.crops import Crops
from metavox.training.gan.generator import Environment, GeneratorConfig
from metavox.training.gan.monitor import COLLAPSED, Watch, latents, remoteness, spread
from metavox.training.gan.statistics import content_loss, distances
from metavox.training.gan.training import EnvironmentGan
from metavox.training.loop import Training

BEGIN_WITH, LOOK_WITH = 512, 256  # crops of each side


@dataclass(frozen=True)
class Sides:
    """What is learned from: clean speech and adverse recordings, unpaired, and some of each that nothing learns from."""

    clean: Crops
    adverse: Crops
    held_clean: Crops
    held_adverse: Crops


@dataclass(frozen=True)
class Learned:
    """`found`: what the held-out clips say. `history`: a row a step."""

    generator: Environment
    history: pd.DataFrame
    found: dict[str, object]


@dataclass(frozen=True)
class Learning:
    """How to learn; `key` says what a run depends on, so that only the same one is resumed from `checkpoints`."""

    steps: int
    batch: int
    learning_rate: float
    penalty: float
    seed: int
    checkpoints: Path
    key: str


def learn_environments(sides: Sides, config: GeneratorConfig, how: Learning) -> Learned:
    """Begin where means and covariances say, play `how.steps` rounds, keep the generator that came nearest."""
    torch.manual_seed(how.seed)
    random = torch.Generator().manual_seed(how.seed)
    gan = EnvironmentGan(Environment(config), how.learning_rate, how.penalty)
    gan.begin(sides.clean(BEGIN_WITH, random), sides.adverse(BEGIN_WITH, random))
    start = copy.deepcopy(gan.generator)
    watch = Watch(
        gan.generator,
        copy.deepcopy(gan.generator),
        sides.clean(LOOK_WITH, random),
        sides.adverse(LOOK_WITH, random),
    )

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        record = gan.step(sides.clean(how.batch, random), sides.adverse(how.batch, random), random)
        return watch(step, record)

    history = Training(
        "augment",
        {"generator": gan.generator, "discriminator": gan.discriminator, "good": watch.good},
        {
            "generator_optimizer": gan.generator_optimizer,
            "discriminator_optimizer": gan.discriminator_optimizer,
        },
        update,
        how.steps,
        how.seed,
        how.checkpoints,
        how.key,
    ).run()
    watch.settle()
    gan.generator.eval()
    return Learned(
        gan.generator, history, judge(gan.generator, start, sides, how.seed) | {"trouble": watch.trouble}
    )


def judge(generator: Environment, start: Environment, sides: Sides, seed: int) -> dict[str, object]:
    """Of held-out clips: are its environments different, are the words still there, is it nearer to the recordings?

    `distance` has, for each kind of `distances`, that of clean clips, of where training began, of what was learned, and
    of other recordings, which is as near as one can come with so many clips.
    """
    random = torch.Generator().manual_seed(seed)
    clean, real = sides.held_clean(LOOK_WITH, random), sides.held_adverse(LOOK_WITH, random)
    with torch.inference_mode():
        moved = generator(clean, latents(generator, len(clean), random), random=random)
    width = spread(generator, clean[:32], seed)
    by = {
        "clean": distances(clean, real),
        "begun": remoteness(start, clean, real, seed),
        "learned": remoteness(generator, clean, real, seed),
        "recordings": distances(sides.adverse(LOOK_WITH, random), real),
    }
    return {
        "content": round(float(content_loss(clean, moved)), 4),
        "spread": round(width, 4),
        "collapsed": width < COLLAPSED,
        "distance": {
            name: {kind: round(value, 1) for kind, value in one.items()} for name, one in by.items()
        },
    }
