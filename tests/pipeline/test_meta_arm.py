"""The meta-learning arm: tasks as configured, within the joint arm's budget."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metavox.audio.perturb import Perturb
from metavox.dataset.store import Store
from metavox.params import Params
from metavox.pipeline.meta_arm import meta_arm
from metavox.recognisers.conformer.network import Network
from metavox.training.joint import JointTask, labelled
from metavox.training.meta import Curriculum, MetaTask

FRAMES, KEPT = 1000, 400


@pytest.fixture
def arm(
    make_store: Callable[..., Store],
    make_model: Callable[..., Network],
    unchanged: Perturb,
    tmp_path: Path,
) -> Callable[..., tuple[MetaTask, int]]:
    model, store = make_model(), make_store()
    joint = JointTask(model, labelled(store, model.tokenizer), FRAMES, KEPT / FRAMES, 0, unchanged)

    def make(**chosen: object) -> tuple[MetaTask, int]:
        small = {"arm_steps": 200, "way": 3, "shot": 2, "queries": 2}
        return meta_arm(joint, Params.model_validate({"metatrain": small | chosen}), tmp_path, FRAMES, KEPT)

    return make


@pytest.mark.parametrize("learner", ["protonet", "fomaml", "maml", "reptile", "anil", "metasgd"])
@pytest.mark.parametrize("curriculum", [0.0, 1.0])
def test_steps_fit_the_budget(
    arm: Callable[..., tuple[MetaTask, int]], learner: str, curriculum: float
) -> None:
    task, steps = arm(learner=learner, curriculum=curriculum, tasks=2)
    assert steps * (task.frames_per_step() + KEPT) == pytest.approx(200 * FRAMES, rel=0.01)
    assert task.curriculum == Curriculum(curriculum, steps)


def test_costlier_learners_get_fewer_steps(arm: Callable[..., tuple[MetaTask, int]]) -> None:
    steps = [arm(learner=name)[1] for name in ("protonet", "fomaml", "maml")]
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) == 3
    assert arm(tasks=4)[1] < steps[1]


@pytest.mark.parametrize("room", ["recorded", "simulated"])
def test_tasks_are_as_the_parameters_say(arm: Callable[..., tuple[MetaTask, int]], room: str) -> None:
    random = torch.Generator().manual_seed(0)
    words = arm(unknown=1, room=room)[0].sampler(0, 1.0, random)
    assert (len(words.support.lengths), len(words.query.lengths)) == (6, 8)
    shared = arm(kind="utterances", task_by=["speaker"], room=room)[0].sampler(0, 1.0, random)
    assert (len(shared.support.lengths), len(shared.query.lengths)) == (2, 2)
    assert not shared.support.targets.is_floating_point()
