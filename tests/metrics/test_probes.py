"""Probes find what is in the frames and nothing else, and never ask what they learned from."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.metrics.probes import (
    CLIPS,
    FOLDS,
    MOST_CLIPS,
    Choice,
    choices,
    line,
    probe_table,
    speakers,
    words,
    words_of,
)
from metavox.recognisers.conformer.network import Network


def everybody(rows: pd.DataFrame) -> frozenset[str]:
    return frozenset(rows["speaker"])


def test_a_line_is_right_as_often_as_it_can_be() -> None:
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 50)
    choice = Choice(np.arange(200), classes, (np.arange(200) % 5 == 0).astype(int))
    clear = torch.from_numpy(np.eye(4)[classes] * 3 + random.normal(0, 0.3, (200, 4))).float()
    noise = torch.from_numpy(random.normal(size=(200, 4))).float()
    assert line(clear, choice).mean() > 0.95
    assert line(noise, choice).mean() < 0.5
    assert len(line(clear, choice)) == choice.asked.sum() == 40


def test_what_is_asked_was_not_learned_from() -> None:
    """Classes are drawn at random, and the frames are one-hot rows: only by having learned a row could it be right."""
    classes = np.random.default_rng(0).integers(0, 8, 120)
    choice = Choice(np.arange(120), classes, np.arange(120) % 4 + 1)
    assert line(torch.eye(120), choice).mean() < 0.3
    assert len(line(torch.eye(120), choice)) == 120


def test_words_are_asked_of_other_speakers_than_taught_them(make_store: Callable[..., Store]) -> None:
    rows = make_store().rows
    choice = words(rows, everybody(rows), seed=1)
    who = rows["speaker"].to_numpy()[choice.rows]
    assert not set(who[choice.asked]) & set(who[~choice.asked])
    assert set(choice.classes[choice.asked]) <= set(choice.classes[~choice.asked])


def test_words_of_unheard_people_are_taught_by_others(make_store: Callable[..., Store]) -> None:
    rows = make_store().rows
    alone = rows["speaker"].eq("speaker-1") & rows["text"].eq("ab")
    rows = rows.assign(text=rows["text"].where(~alone, "mine"))  # a word that nobody else says
    choice = words_of(rows, frozenset({"speaker-1", "speaker-2"}))
    who = rows["speaker"].to_numpy()[choice.rows]
    assert set(who[choice.asked]) == {"speaker-1", "speaker-2"}
    assert "mine" not in set(rows["text"].to_numpy()[choice.rows[choice.asked]])
    for fold in set(choice.folds) - {0}:
        asked = choice.folds == fold
        assert not set(who[asked]) & set(who[~asked])
        assert set(choice.classes[asked]) <= set(choice.classes[~asked])


def test_each_clip_of_a_speaker_is_asked_once(make_store: Callable[..., Store]) -> None:
    rows = make_store(sentences=150).rows
    choice = speakers(rows, everybody(rows), seed=1)
    assert len(choice.rows) == len(set(choice.rows)) == MOST_CLIPS * 3
    assert choice.asked.all()
    for fold in range(1, FOLDS + 1):
        assert np.bincount(choice.classes[choice.folds == fold]).tolist() == [MOST_CLIPS // FOLDS] * 3
    assert set(speakers(rows, frozenset({"speaker-0", "speaker-2"}), seed=1).classes) == {0, 1}
    few = make_store(sentences=CLIPS, seed=1).rows
    with pytest.raises(UserError, match="no two speakers with enough clips"):
        speakers(few, everybody(few), seed=1)


def test_heard_and_unheard_people_never_meet_in_a_probe_but_as_teachers(
    make_store: Callable[..., Store],
) -> None:
    rows = make_store(sentences=60).rows
    chosen = choices(rows, frozenset({"speaker-2"}), seed=0)
    assert set(chosen) == {
        "words, heard",
        "speakers, heard",
        "words, unheard",
    }  # one speaker is not told apart
    speaker = rows["speaker"].to_numpy()
    for name in ("words, heard", "speakers, heard"):
        assert "speaker-2" not in set(speaker[chosen[name].rows])
    unheard = chosen["words, unheard"]
    assert set(speaker[unheard.rows[unheard.asked]]) == {"speaker-2"}


def test_the_table_sets_encoders_side_by_side(
    make_store: Callable[..., Store], make_model: Callable[..., Network]
) -> None:
    store = make_store(tuple(f"w{n}" for n in range(12)), sentences=60)
    both = {"other": make_model(1).encoder, "random": make_model(0).encoder}
    table = probe_table(both, store, 0, frozenset({"speaker-2"}))
    assert set(table["encoder"]) == {"random", "other"}
    assert {
        ("words", "heard"),
        ("speakers", "heard"),
        ("words", "unheard"),
        ("10 words by 1 clip", "unheard"),
    } <= set(zip(table["probe"], table["people"], strict=True))
    by_word = table[table["probe"] == "words"]
    assert (by_word["accuracy"] > 2 * by_word["chance"]).all()  # even random convolutions keep a word's shape
    random, other = (table[table["encoder"] == name].reset_index(drop=True) for name in ("random", "other"))
    assert (random[["gain", "gain_ci95"]] == 0).all().all()
    assert other["gain"].to_numpy() == pytest.approx(
        (other["accuracy"] - random["accuracy"]).to_numpy(), abs=2e-4
    )
    alone = probe_table({"random": make_model(0).encoder}, store, 0, frozenset({"speaker-2"}))
    assert alone.equals(random)


def test_without_shared_words_there_is_nothing_to_probe(
    make_store: Callable[..., Store], make_model: Callable[..., Network]
) -> None:
    store = make_store()
    with pytest.raises(UserError, match="no word that several speakers say"):
        words(store.rows.assign(speaker="one"), frozenset({"one"}), seed=0)
    store.rows["speaker"] = "one"
    with pytest.raises(UserError, match="too few words and speakers"):
        probe_table({"random": make_model().encoder}, store, seed=0)
