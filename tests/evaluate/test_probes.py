"""Probes find what is in the frames and nothing else, and never ask what they learned from."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from metavox.corpus.store import Store
from metavox.errors import UserError
from metavox.evaluate.probes import CLIPS, Choice, line, probe_table, voices, words
from metavox.model.recogniser import Recogniser


def test_a_line_is_right_as_often_as_it_can_be() -> None:
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 50)
    asked = np.arange(200) % 5 == 0
    choice = Choice(np.arange(200), classes, asked)
    clear = torch.from_numpy(np.eye(4)[classes] * 3 + random.normal(0, 0.3, (200, 4))).float()
    noise = torch.from_numpy(random.normal(size=(200, 4))).float()
    assert line(clear, choice).mean() > 0.95
    assert line(noise, choice).mean() < 0.5
    assert len(line(clear, choice)) == asked.sum()


def test_words_are_asked_of_other_voices_than_taught_them(make_store: Callable[..., Store]) -> None:
    rows = make_store().rows
    choice = words(rows, seed=1)
    who = rows["voice"].to_numpy()[choice.rows]
    assert not set(who[choice.asked]) & set(who[~choice.asked])
    assert set(choice.classes[choice.asked]) <= set(choice.classes[~choice.asked])


def test_voices_are_asked_with_other_clips(make_store: Callable[..., Store]) -> None:
    rows = make_store(sentences=60).rows
    choice = voices(rows, seed=1)
    assert len(choice.rows) == len(set(choice.rows)) == CLIPS * len(np.unique(choice.classes))
    assert choice.asked.mean() == pytest.approx(0.25)


def test_the_table_sets_encoders_side_by_side(
    make_store: Callable[..., Store], make_model: Callable[..., Recogniser]
) -> None:
    store = make_store(sentences=60)
    table = probe_table({"random": make_model(0).encoder, "other": make_model(1).encoder}, store, seed=0)
    assert set(table["encoder"]) == {"random", "other"}
    assert {"words of unheard voices", "voices"} <= set(table["probe"])
    by_word = table[table["probe"] == "words of unheard voices"]
    assert (by_word["accuracy"] > 2 * by_word["chance"]).all()  # even random convolutions keep a word's shape
    assert probe_table({"random": make_model(0).encoder}, store, seed=0).equals(
        table[table["encoder"] == "random"].reset_index(drop=True)
    )


def test_without_shared_words_there_is_nothing_to_probe(make_store: Callable[..., Store]) -> None:
    rows = make_store().rows
    with pytest.raises(UserError, match="no word that several voices say"):
        words(rows.assign(voice="one"), seed=0)
