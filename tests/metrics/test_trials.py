"""Many episodes at once give the same trials as each episode alone."""

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
    asked = random.integers(UNKNOWN, way, queries)
    rows = random.integers(CLIPS, size=(way * shots + queries))
    return Episode(
        words, rows[: way * shots], labels, rows[way * shots :], asked, random.random(queries) < 0.2
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


def same(one: Trials, other: Trials) -> None:
    for name, value in vars(one).items():
        if name in ("score", "confidence"):
            np.testing.assert_allclose(value, getattr(other, name), atol=2e-4)
        else:
            assert (value == getattr(other, name)).all()


@pytest.mark.parametrize("method", ["prototypes", "head"])
@pytest.mark.parametrize("scorer", ["similarity", "margin"])
@pytest.mark.parametrize("with_cohort", [False, True])
def test_many_episodes_at_once_give_the_trials_of_each_alone(
    embedded: torch.Tensor, cohort: Cohort, method: Method, scorer: Scorer, with_cohort: bool
) -> None:
    random = np.random.default_rng(3)
    shapes = [(5, 2, 7)] * 40 + [(5, 1, 7)] * 3 + [(5, 1, 4)] * 2
    episodes = [episode(random, *shape) for shape in shapes]

    def alone(one: Episode) -> torch.Tensor:
        labels = torch.from_numpy(one.support_labels)
        head = learn_words(embedded[one.support], labels, len(one.words), method)
        asked = embedded[one.query][:, 0]
        logits = head.logits(asked)
        return logits - LOGIT_SCALE * cohort.nearest(asked)[:, None] if with_cohort else logits

    together = run_trials(episodes, embedded.__getitem__, method, scorer, cohort if with_cohort else None)
    same(together, run_trials_by(alone, episodes, scorer))
    each = [scores(alone(one), scorer).numpy() for one in episodes]
    np.testing.assert_allclose(together.score, np.concatenate(each), atol=2e-4)


def test_a_recording_is_encoded_once_and_scored_once_per_word(make_model: Callable[..., Network]) -> None:
    model, random = make_model(), np.random.default_rng(4)
    clips = [
        torch.from_numpy(random.normal(0, 1, (n, 16)).astype(np.float32))
        for n in random.integers(8, 90, CLIPS)
    ]
    episodes = [episode(random, 4, 1, 6) for _ in range(20)]
    asked: list[int] = []

    def mels(row: int) -> torch.Tensor:
        asked.append(row)
        return clips[row]

    def alone(one: Episode) -> torch.Tensor:
        with torch.inference_mode():
            rows = [
                text_scores(
                    *model.characters(clips[int(row)][None], torch.tensor([len(clips[int(row)])])),
                    [model.tokenizer.encode(word) for word in one.words],
                )
                for row in one.query
            ]
        return torch.cat(rows)

    same(run_spelling_trials(model, episodes, mels), run_trials_by(alone, episodes))
    assert len(asked) == len(set(asked))
