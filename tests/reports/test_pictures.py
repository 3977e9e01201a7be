"""The data of the report's charts: confusion rates, attributions that add up, and planes that keep neighbours together."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from metavox.dataset.episodes import Episode
from metavox.dataset.store import Store
from metavox.enrolment.prototypes import embed_mels, learn_words
from metavox.metrics.attribution import attribute
from metavox.metrics.trials import Trials, run_trials
from metavox.recognisers.conformer.network import Network
from metavox.reports.pictures import confusions, course, decisions, plane


def test_confusion_rates_are_shares_of_the_queries_whose_episode_has_both_words() -> None:
    """Both episodes have cat and dog; only the second has cow."""
    words = np.array([["cat", "dog", "cot"], ["cat", "dog", "cow"]], dtype=object)
    episode, truth, guess = np.array([[0, 0, 0], [0, 0, 2], [0, 1, 1], [1, 0, 2], [1, 0, 0], [1, 2, 2]]).T
    nothing = np.zeros(6)
    trials = Trials(words, episode, np.arange(6), truth, guess, nothing, nothing, nothing.astype(bool))
    found = confusions(trials)
    rate = {(a, b): found.rates[i, j] for i, a in enumerate(found.words) for j, b in enumerate(found.words)}
    assert rate["cat", "cat"] == 2 / 4
    assert rate["cat", "cot"] == 1 / 2, "of the two queries whose episode has it"
    assert rate["cat", "cow"] == 1 / 2
    assert rate["dog", "dog"] == 1
    assert np.isnan(rate["cow", "cot"])
    assert len(confusions(trials, most=2).words) == 2


def test_attributions_add_up_to_the_gain_in_score(make_model: Callable[..., Network]) -> None:
    model = make_model().requires_grad_(False)
    clips = [torch.randn(50, 16) * 2 for _ in range(4)]
    head = learn_words(embed_mels(model, clips), torch.arange(4), 4)
    found = attribute(model, head, clips[0], 2, steps=200)
    assert found.cells.shape == (50, 16)
    with torch.no_grad():
        logit = head.logits(model.embed(clips[0][None], torch.tensor([50])))[0, 2]
    assert found.score == pytest.approx(float(logit), rel=1e-4)
    assert abs(found.error) < 0.05 * max(1.0, abs(found.score - found.baseline))
    assert found.cells.abs().sum() > 0


def test_a_steady_sound_has_no_attributions(make_model: Callable[..., Network]) -> None:
    model = make_model()
    steady = torch.randn(1, 16).expand(40, 16).clone()
    head = learn_words(embed_mels(model, [torch.randn(40, 16), steady]), torch.arange(2), 2)
    found = attribute(model, head, steady, 1)
    assert found.cells.abs().max() < 1e-5


def test_a_plane_keeps_words_together_and_is_deterministic() -> None:
    random = np.random.default_rng(0)
    words = np.arange(3).repeat(40).astype(str)
    vectors = np.eye(3)[words.astype(int)].repeat(8, axis=1) + random.normal(0, 0.1, (120, 24))
    found = plane(vectors, words, np.full(120, "v"))
    assert found
    assert found.method == "t-SNE"
    centres = np.array([found.points[words == word].mean(axis=0) for word in "012"])
    nearest = np.linalg.norm(found.points[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == words.astype(int)).mean() > 0.95
    again = plane(vectors, words, np.full(120, "v"))
    assert again
    assert (again.points == found.points).all()
    few = plane(vectors[:30], words[:30], np.full(30, "v"))
    assert few
    assert few.method == "PCA"
    assert plane(vectors[:2], words[:2], np.full(2, "v")) is None


def test_decisions_and_learning_curves_come_from_the_same_episodes(
    make_store: Callable[..., Store], make_model: Callable[..., Network]
) -> None:
    store, model = make_store(sentences=0), make_model()
    embedded = embed_mels(model, [store[i] for i in range(len(store))], 1)
    labels = np.arange(4)
    episodes = [
        Episode(("ab", "cd", "ef", "gh"), labels + 4 * i, labels, labels + 4 * (i + 1), np.roll(labels, i))
        for i in range(2)
    ]  # the second is labelled wrongly
    trials = run_trials(episodes, embedded.__getitem__)
    found = decisions(model, episodes, trials, embedded.__getitem__, store.__getitem__)
    assert [one.right for one in found] == [True, False]
    for one in found:
        query = np.flatnonzero((trials.row == one.row) & (trials.right == one.right))[0]
        assert one.guess == episodes[trials.episode[query]].words[trials.guess[query]]
        assert one.attribution.mels.shape == store[one.row].shape
    learned = course(episodes, embedded.__getitem__, (0, 40))
    assert learned.loss[1].mean < learned.loss[0].mean
    assert learned.accuracy[0].mean >= 0
