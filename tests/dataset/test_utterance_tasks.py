"""Utterance tasks have the requested number of conditions and keep speakers apart."""

import numpy as np
import pandas as pd
import pytest

from metavox.dataset.episodes import Series
from metavox.dataset.utterance_tasks import UtteranceSampler, UtteranceShape, UtteranceTask
from metavox.errors import UserError


def table(clips: int = 6) -> pd.DataFrame:
    rows = [
        {
            "language": language,
            "speaker": f"{language}-{speaker}",
            "environment": room,
            "text": f"sentence {n}",
        }
        for language in ("en", "fr", "de")
        for speaker in range(3)
        for room in ("hall", "car", "")
        for n in range(clips)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=1).reset_index(drop=True)


def draw(shape: UtteranceShape, rows: pd.DataFrame | None = None, count: int = 60) -> list[UtteranceTask]:
    series = Series(UtteranceSampler(table() if rows is None else rows, shape), 0)
    return [series(step) for step in range(count)]


@pytest.mark.parametrize("pairing", ["any", "cross-speaker"])
@pytest.mark.parametrize(
    "by", [("speaker",), ("language",), ("environment",), ("language", "environment")], ids="+".join
)
def test_a_task_has_one_condition(by: tuple[str, ...], pairing: str) -> None:
    if by == ("speaker",) and pairing == "cross-speaker":
        pytest.skip("refused; tested below")
    rows = table()
    seen = set()
    for task in draw(UtteranceShape(4, 3, by, pairing=pairing), rows):  # type: ignore[arg-type]
        used = rows.loc[np.concatenate([task.support, task.query])]
        assert used.groupby(list(by)).ngroups == 1
        assert task.conditions == ("|".join(used.iloc[0][list(by)]),)
        assert len(task.support) == 4
        assert len(task.query) == 3
        assert used.index.is_unique
        seen.add(task.conditions)
        if pairing == "cross-speaker":
            query_speakers = set(rows.loc[task.query, "speaker"])
            assert len(query_speakers) == 1
            assert not query_speakers & set(rows.loc[task.support, "speaker"])
    known = rows[(rows[list(by)] != "").all(axis=1)]
    assert len(seen) == known.groupby(list(by)).ngroups


def test_mixed_conditions_share_a_task_in_equal_parts() -> None:
    rows = table()
    for task in draw(UtteranceShape(5, 4, ("language",), conditions_per_task=2), rows):
        support, query = rows.loc[task.support, "language"], rows.loc[task.query, "language"]
        assert sorted(support.value_counts()) == [2, 3]
        assert sorted(query.value_counts()) == [2, 2]
        assert set(support) == set(query) == set(task.conditions)
        assert not set(task.support) & set(task.query)


def test_ranks_share_one_series_and_a_step_depends_on_nothing_before_it() -> None:
    sampler = UtteranceSampler(table(), UtteranceShape(3, 2, ("language",), pairing="cross-speaker"))
    alone = [Series(sampler, 1)(n).support.tolist() for n in range(12)]
    for world in (2, 3):
        ranks = [Series(sampler, 1, rank, world) for rank in range(world)]
        assert [ranks[n % world](n // world).support.tolist() for n in reversed(range(12))] == alone[::-1]


def test_an_unknown_environment_is_not_a_condition() -> None:
    assert {task.conditions[0] for task in draw(UtteranceShape(2, 2, ("environment",)))} == {"hall", "car"}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (UtteranceShape(20, 1), "20\\+1 utterances of 1 speaker .* 0 conditions"),
        (UtteranceShape(2, 2, ("language",), conditions_per_task=4), "cannot share"),
        (UtteranceShape(4, 4, ("language",), conditions_per_task=4), "3 conditions have enough"),
        (UtteranceShape(2, 2, ("speaker",), pairing="cross-speaker"), "cannot be cross-speaker"),
        (UtteranceShape(2, 2, ("accent",)), "no column accent"),
    ],
)
def test_a_task_that_cannot_be_drawn_is_refused_with_the_clips_available(
    shape: UtteranceShape, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        UtteranceSampler(table(), shape)
