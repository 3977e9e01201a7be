"""The meta-learning arm of `metatrain`: its tasks, its learner, and the number of steps on the joint arm's budget."""

from pathlib import Path

from metavox.audio.perturb import Perturb, Perturbation, for_features
from metavox.dataset.episodes import EpisodeShape
from metavox.dataset.utterance_tasks import UtteranceShape
from metavox.params import MetaTrain, Params
from metavox.recognisers.conformer import Network
from metavox.training.gan import Environments, load_generator
from metavox.training.joint import JointTask, Labelled
from metavox.training.meta import (
    Curriculum,
    MetaTask,
    Problem,
    Utterances,
    UtteranceTasks,
    Words,
    WordTasks,
    learner,
)
from metavox.training.meta.augment import SharedRoom


def meta_arm(
    joint: JointTask, params: Params, root: Path, frames: float, kept: float
) -> tuple[MetaTask, int]:
    """The task for the training loop, and its number of steps.

    A step of the joint arm passes `frames` forward and backward through the network. A step of this arm passes `kept`
    frames for the joint training that goes on beside the tasks, and those of the tasks themselves.
    """
    config = params.metatrain
    meta_learner = learner(
        config.learner, _problem(joint.model, config), config.inner_steps, config.inner_learning_rate
    )
    task = MetaTask(
        joint, meta_learner, _tasks(joint.data, params, _room(joint.perturb, params, root)), config.tasks
    )
    task.curriculum = Curriculum(config.curriculum)
    steps = max(1, round(config.arm_steps * frames / (task.frames_per_step() + kept)))
    task.curriculum = Curriculum(config.curriculum, steps)
    return task, steps


def _problem(model: Network, config: MetaTrain) -> Problem:
    if config.kind == "utterances":
        return Utterances(model, config.statistics)
    return Words(model, reject=config.unknown + config.background > 0, statistics=config.statistics)


def _tasks(data: Labelled, params: Params, perturb: Perturb) -> WordTasks | UtteranceTasks:
    config = params.metatrain
    if config.kind == "utterances":
        utterances = UtteranceShape(config.shot, config.queries, config.task_by, config.conditions_per_task)
        return UtteranceTasks(data, utterances, perturb, params.seed)
    words = EpisodeShape(
        config.way, config.shot, config.queries, config.pairing, config.unknown, config.background
    )
    return WordTasks(data, words, perturb, params.seed, config.reversed_words, config.mix_languages)


def _room(recorded: Perturb, params: Params, root: Path) -> Perturb:
    """With room = recorded, each clip is perturbed on its own; otherwise a task's clips share a simulated or GAN room."""
    if params.metatrain.room == "recorded":
        return recorded
    features = params.features
    if params.metatrain.room == "simulated":
        return for_features(SharedRoom(Perturbation()), features)
    generator = load_generator(root / params.metatrain.environment, features)
    return for_features(SharedRoom(Environments(generator, 1.0, Perturbation())), features)
