"""Comparison of arms on the same episodes, with as many unknown words as the recordings allow."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.metrics.arms import BEFORE, ArmProtocol, draw_episodes, embedded_arms, run_arms, table
from metavox.recognisers.conformer.network import Network


@pytest.fixture
def protocol() -> ArmProtocol:
    return ArmProtocol(way=3, shots=(1, 2, 50), queries=1, unknown=2, episodes=20, seed=0)


def test_every_arm_and_method_is_in_the_table_and_notes_name_what_is_not_measured(
    make_store: Callable[..., Store], make_model: Callable[..., Network], protocol: ArmProtocol
) -> None:
    store = make_store(sentences=0)
    models = {"untrained": make_model(0), "joint": make_model(1)}
    results, notes = run_arms(embedded_arms(models, models["joint"], store), protocol)
    rows = table(results)
    for task in ("3 words, cross-speaker", "3 words, same-speaker"):
        task_rows = rows[rows["task"] == task]
        assert task_rows["arm"].tolist().count(BEFORE) == 1
        after = task_rows[task_rows["shots"] > 0]
        assert sorted(after["shots"].unique()) == [1, 2]
        assert set(after["arm"]) == {
            f"after: {arm}, {method}" for arm in models for method in ("prototypes", "head")
        }
    assert len(notes) == 2
    assert all("50-shot is not measured" in note for note in notes)
    assert (rows["at_1"] <= rows["at_5"]).all(), "a higher false-accept rate cannot lower the accuracy"
    assert (rows["at_5"] <= rows["accuracy"] + 1e-9).all()
    assert rows[["accuracy_ci95", "ece", "equal_error"]].notna().all(axis=None)
    same = [result for result in results if result.task == results[0].task and result.shots == 1]
    assert all(result.episodes is same[0].episodes for result in same)


def test_unknown_words_never_cost_a_speaker() -> None:
    rows = [
        {"text": word, "speaker": speaker, "language": "xx"}
        for speaker, words in (("rich", "abcde"), ("poor", "abc"))
        for word in words
        for _ in range(4)
    ]
    frame = pd.DataFrame(rows)
    both = draw_episodes(frame, ArmProtocol(3, (1,), 1, 5, 40, 0), "same-speaker", 1)
    queried = {frame.loc[int(row), "speaker"] for episode in both for row in episode.query}
    assert queried == {"rich", "poor"}
    assert all((episode.query_labels >= 0).all() for episode in both)
    alone = draw_episodes(
        frame[frame["speaker"] == "rich"].reset_index(), ArmProtocol(3, (1,), 1, 5, 4, 0), "same-speaker", 1
    )
    assert [(episode.query_labels < 0).sum() for episode in alone] == [2] * 4


def test_too_few_recordings_for_any_episode_are_a_one_line_error(
    make_store: Callable[..., Store], make_model: Callable[..., Network], protocol: ArmProtocol
) -> None:
    store = make_store(sentences=0)
    few = store.where(np.arange(len(store)) < 2)
    with pytest.raises(UserError, match="no episode of 3 words can be drawn from 2 test clips"):
        run_arms(embedded_arms({"joint": make_model()}, make_model(), few), protocol)
