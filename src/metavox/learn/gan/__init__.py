"""The environment GAN: what a clean utterance would sound like in another room, on another line."""

from metavox.learn.gan.crops import Crops
from metavox.learn.gan.generator import Environment, GeneratorConfig, load_generator, save_generator
from metavox.learn.gan.learning import Learned, Learning, Sides, learn_environments
from metavox.learn.gan.perturbation import Environments, SampleEnvironments

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
