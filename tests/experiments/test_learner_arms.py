"""The experiment on learners: arms with the same start and the same budget, and the table of error reductions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_pipeline import PARAMS

from experiments import learners
from experiments.fine_tuning import tuned_accuracies
from metavox.dataset.episodes import Episode, EpisodeSampler, EpisodeShape
from metavox.errors import UserError
from metavox.pipeline.artifacts import clean_store
from metavox.recognisers.conformer.artifact import load_model
from metavox.training.meta import Words, learner


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "ARM_STEPS", 3)
    monkeypatch.setattr(learners, "TUNED_EPISODES", 2)
    monkeypatch.setattr(learners, "DEV_EPISODES", 1)


def run(project: Path, arm: str, seed: int = 1) -> dict:
    out = project / learners.FOLDER / "learners" / f"{arm}-{seed}.json"
    learners.train(PARAMS, project, out, arm, seed, "float32")
    return json.loads(out.read_text())


def test_arms_of_one_start_are_compared_with_joint_training(project: Path, short: None) -> None:
    learners.warm(PARAMS, project, 1, "float32")
    joint, other = run(project, "joint"), run(project, "metasgd")
    assert joint["steps"] == 3
    assert other["steps"] < 3, "second-order inner steps use up more of the budget"
    evaluations = set(joint["accuracies"])
    assert {name.split(": ")[1] for name in evaluations} == {"class means", "head", "all weights"}
    assert {name.split(": ")[1] for name in set(other["accuracies"]) - evaluations} == {
        "all weights, at learned rates"
    }
    assert all(0 <= value <= 1 for values in other["accuracies"].values() for value in values)
    table = learners.table(project)
    assert set(table["arm"]) == {"joint", "metasgd"}
    assert (table.loc[table["arm"] == "joint", "less error than joint"] == "").all()
    assert (project / learners.FOLDER / "learners.csv").is_file()


def test_the_same_seed_gives_the_same_figures(project: Path, short: None) -> None:
    learners.warm(PARAMS, project, 1, "float32")
    first = run(project, "anil")
    for checkpoint in (project / ".metavox/checkpoints").glob("*learners-anil*"):
        checkpoint.unlink()
    assert run(project, "anil") == first


def test_unknown_arms_and_missing_baselines_are_one_line_errors(project: Path, short: None) -> None:
    with pytest.raises(UserError, match="arm mamml: no such arm; expected one of joint, protonet"):
        learners.train(PARAMS, project, project / "x.json", "mamml", 1, "float32")
    with pytest.raises(UserError, match="no run of joint training"):
        learners.table(project)
    learners.warm(PARAMS, project, 1, "float32")
    run(project, "protonet")
    with pytest.raises(UserError, match=r"no run of joint training, seeds \[1\]"):
        learners.table(project)


def test_fine_tuning_on_an_episode_does_not_change_the_start(project: Path) -> None:
    store = clean_store(project)
    model = load_model(project / "artifacts/recogniser")
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    words = store.where(store.rows["unit"] == "word")
    sampler = EpisodeSampler(words.rows, EpisodeShape(3, 2, 2, "same-speaker"))
    episodes = [sampler(np.random.default_rng(i)) for i in range(2)]
    fomaml = learner("fomaml", Words(model), 30, 0.02)
    first = tuned_accuracies(fomaml, weights, episodes, words.__getitem__)
    assert np.array_equal(first, tuned_accuracies(fomaml, weights, episodes[::-1], words.__getitem__)[::-1])
    for name, value in model.named_parameters():
        assert torch.equal(value.detach(), weights[name]), name
    support_as_query = [
        Episode(e.words, e.support, e.support_labels, e.support, e.support_labels) for e in episodes
    ]
    assert tuned_accuracies(fomaml, weights, support_as_query, words.__getitem__).mean() == 1, (
        "the support clips themselves are recognised"
    )
