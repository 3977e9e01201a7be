"""The meta-learning arm of `metatrain`: which tasks, which learner, and as many steps as the joint arm's budget pays for."""

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
    """The task of the training loop, and its steps.

    `frames` pass through the network and back in a step of the joint arm, `kept` of them in a step of this one for the
    joint training that goes on beside the tasks.
    """
    chosen = params.metatrain
    how = learner(
        chosen.learner, _problem(joint.model, chosen), chosen.inner_steps, chosen.inner_learning_rate
    )
    task = MetaTask(joint, how, _tasks(joint.data, params, _room(joint.perturb, params, root)), chosen.tasks)
    task.curriculum = Curriculum(chosen.curriculum)
    steps = max(1, round(chosen.arm_steps * frames / (task.frames_per_step() + kept)))
    task.curriculum = Curriculum(chosen.curriculum, steps)
    return task, steps


def _problem(model: Network, chosen: MetaTrain) -> Problem:
    if chosen.kind == "utterances":
        return Utterances(model, chosen.statistics)
    return Words(model, reject=chosen.unknown + chosen.background > 0, statistics=chosen.statistics)


def _tasks(data: Labelled, params: Params, perturb: Perturb) -> WordTasks | UtteranceTasks:
    chosen = params.metatrain
    if chosen.kind == "utterances":
        utterances = UtteranceShape(chosen.shot, chosen.queries, chosen.task_by, chosen.conditions_per_task)
        return UtteranceTasks(data, utterances, perturb, params.seed)
    words = EpisodeShape(
        chosen.way, chosen.shot, chosen.queries, chosen.pairing, chosen.unknown, chosen.background
    )
    return WordTasks(data, words, perturb, params.seed, chosen.reversed_words, chosen.mix_languages)


def _room(recorded: Perturb, params: Params, root: Path) -> Perturb:
    """`recorded`: each clip is perturbed on its own. Else all clips of a task are in one room, drawn or GAN-made."""
    if params.metatrain.room == "recorded":
        return recorded
    features = params.features
    if params.metatrain.room == "simulated":
        return for_features(SharedRoom(Perturbation()), features)
    generator = load_generator(root / params.metatrain.environment, features)
    return for_features(SharedRoom(Environments(generator, 1.0, Perturbation())), features)
