"""The environment GAN: how a clean utterance would sound in another room or over another line."""

from metavox.training.gan.crops import Crops
from metavox.training.gan.generator import Environment, GeneratorConfig, load_generator, save_generator
from metavox.training.gan.learning import GanConfig, GanData, LearnedEnvironments, learn_environments
from metavox.training.gan.perturbation import Environments, SampleEnvironments

__all__ = [
    "Crops",
    "Environment",
    "Environments",
    "GanConfig",
    "GanData",
    "GeneratorConfig",
    "LearnedEnvironments",
    "SampleEnvironments",
    "learn_environments",
    "load_generator",
    "save_generator",
]
