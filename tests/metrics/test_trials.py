"""Batched scoring of episodes gives the same trials as scoring each episode alone."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metavox.dataset.episodes import UNKNOWN, Episode
from metavox.enrolment.prototypes import LOGIT_SCALE, Method, learn_words
from metavox.metrics.spelling import run_spelling_trials
from metavox.metrics.trials import Scorer, Trials, run_trials, run_trials_by, scores
from metavox.recognisers.conformer.cohort import Cohort
from metavox.recognisers.conformer.decoding import text_scores
from metavox.recognisers.conformer.network import Network

CLIPS, VIEWS, WIDTH = 50, 3, 24
SPELLED = tuple("abcdefghij")


def episode(random: np.random.Generator, way: int, shots: int, queries: int) -> Episode:
    words = tuple(random.choice(SPELLED, way, replace=False))
    labels = random.permutation(np.arange(way).repeat(shots))
    query_labels = random.integers(UNKNOWN, way, queries)
    rows = random.integers(CLIPS, size=(way * shots + queries))
    return Episode(
        words, rows[: way * shots], labels, rows[way * shots :], query_labels, random.random(queries) < 0.2
    )


@pytest.fixture
def embedded() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(CLIPS, VIEWS, WIDTH, generator=random), dim=2)


@pytest.fixture
def cohort() -> Cohort:
    cohort = Cohort(30, WIDTH)
    cohort.embeddings.copy_(
        F.normalize(torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(1)), dim=1)
    )
    return cohort


def assert_same_trials(first: Trials, second: Trials) -> None:
    for name, value in vars(first).items():
        if name in ("score", "confidence"):
            np.testing.assert_allclose(value, getattr(second, name), atol=2e-4)
        else:
            assert (value == getattr(second, name)).all()


@pytest.mark.parametrize("method", ["prototypes", "head"])
@pytest.mark.parametrize("scorer", ["similarity", "margin"])
@pytest.mark.parametrize("with_cohort", [False, True])
def test_a_batch_of_episodes_gives_the_trials_of_each_episode_alone(
    embedded: torch.Tensor, cohort: Cohort, method: Method, scorer: Scorer, with_cohort: bool
) -> None:
    random = np.random.default_rng(3)
    shapes = [(5, 2, 7)] * 40 + [(5, 1, 7)] * 3 + [(5, 1, 4)] * 2
    episodes = [episode(random, *shape) for shape in shapes]

    def score_alone(task: Episode) -> torch.Tensor:
        labels = torch.from_numpy(task.support_labels)
        head = learn_words(embedded[task.support], labels, len(task.words), method)
        queries = embedded[task.query][:, 0]
        logits = head.logits(queries)
        return logits - LOGIT_SCALE * cohort.nearest(queries)[:, None] if with_cohort else logits

    batched = run_trials(episodes, embedded.__getitem__, method, scorer, cohort if with_cohort else None)
    assert_same_trials(batched, run_trials_by(score_alone, episodes, scorer))
    separate = [scores(score_alone(task), scorer).numpy() for task in episodes]
    np.testing.assert_allclose(batched.score, np.concatenate(separate), atol=2e-4)


def test_spelling_trials_read_each_recording_once_and_match_scoring_alone(
    make_model: Callable[..., Network],
) -> None:
    model, random = make_model(), np.random.default_rng(4)
    clips = [
        torch.from_numpy(random.normal(0, 1, (n, 16)).astype(np.float32))
        for n in random.integers(8, 90, CLIPS)
    ]
    episodes = [episode(random, 4, 1, 6) for _ in range(20)]
    rows_read: list[int] = []

    def mels(row: int) -> torch.Tensor:
        rows_read.append(row)
        return clips[row]

    def score_alone(task: Episode) -> torch.Tensor:
        with torch.inference_mode():
            rows = [
                text_scores(
                    *model.characters(clips[int(row)][None], torch.tensor([len(clips[int(row)])])),
                    [model.tokenizer.encode(word) for word in task.words],
                )
                for row in task.query
            ]
        return torch.cat(rows)

    assert_same_trials(run_spelling_trials(model, episodes, mels), run_trials_by(score_alone, episodes))
    assert len(rows_read) == len(set(rows_read))
