"""The environment GAN: what a clean utterance would sound like in another room, on another line."""

from metavox.training.gan.crops import Crops
from metavox.training.gan.generator import Environment, GeneratorConfig, load_generator, save_generator
from metavox.training.gan.learning import Learned, Learning, Sides, learn_environments
from metavox.training.gan.perturbation import Environments, SampleEnvironments

__all__ = [
    "Crops",
    "Environment",
    "Environments",
    "GeneratorConfig",
    "Learned",
    "Learning",
    "SampleEnvironments",
    "Sides",
    "learn_environments",
    "load_generator",
    "save_generator",
]
