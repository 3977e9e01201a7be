"""Linear probes measure only what the frames contain, and never train on the rows they test."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.metrics.probes import (
    CLIP_FOLDS,
    MAX_CLIPS,
    MIN_CLIPS,
    ProbeSet,
    linear_probe,
    probe_sets,
    probe_table,
    speakers,
    unheard_words,
    words,
)
from metavox.recognisers.conformer.network import Network


def all_speakers(rows: pd.DataFrame) -> frozenset[str]:
    return frozenset(rows["speaker"])


def test_a_linear_probe_separates_distinct_classes_and_not_noise() -> None:
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 50)
    probe_set = ProbeSet(np.arange(200), classes, (np.arange(200) % 5 == 0).astype(int))
    separable = torch.from_numpy(np.eye(4)[classes] * 3 + random.normal(0, 0.3, (200, 4))).float()
    noise = torch.from_numpy(random.normal(size=(200, 4))).float()
    assert linear_probe(separable, probe_set).mean() > 0.95
    assert linear_probe(noise, probe_set).mean() < 0.5
    assert len(linear_probe(separable, probe_set)) == probe_set.tested.sum() == 40


def test_tested_rows_are_not_trained_on() -> None:
    """With random classes and one-hot rows, a probe is correct only on rows that it was trained on."""
    classes = np.random.default_rng(0).integers(0, 8, 120)
    probe_set = ProbeSet(np.arange(120), classes, np.arange(120) % 4 + 1)
    assert linear_probe(torch.eye(120), probe_set).mean() < 0.3
    assert len(linear_probe(torch.eye(120), probe_set)) == 120


def test_words_are_tested_on_speakers_that_are_not_trained_on(make_store: Callable[..., Store]) -> None:
    rows = make_store().rows
    probe_set = words(rows, all_speakers(rows), seed=1)
    speaker = rows["speaker"].to_numpy()[probe_set.rows]
    assert not set(speaker[probe_set.tested]) & set(speaker[~probe_set.tested])
    assert set(probe_set.classes[probe_set.tested]) <= set(probe_set.classes[~probe_set.tested])


def test_words_of_unheard_speakers_are_learned_from_others(make_store: Callable[..., Store]) -> None:
    rows = make_store().rows
    single_speaker = rows["speaker"].eq("speaker-1") & rows["text"].eq("ab")
    rows = rows.assign(text=rows["text"].where(~single_speaker, "mine"))  # a word that nobody else says
    probe_set = unheard_words(rows, frozenset({"speaker-1", "speaker-2"}))
    speaker = rows["speaker"].to_numpy()[probe_set.rows]
    assert set(speaker[probe_set.tested]) == {"speaker-1", "speaker-2"}
    assert "mine" not in set(rows["text"].to_numpy()[probe_set.rows[probe_set.tested]])
    for fold in set(probe_set.folds) - {0}:
        tested = probe_set.folds == fold
        assert not set(speaker[tested]) & set(speaker[~tested])
        assert set(probe_set.classes[tested]) <= set(probe_set.classes[~tested])


def test_each_clip_of_a_speaker_is_tested_once(make_store: Callable[..., Store]) -> None:
    rows = make_store(sentences=150).rows
    probe_set = speakers(rows, all_speakers(rows), seed=1)
    assert len(probe_set.rows) == len(set(probe_set.rows)) == MAX_CLIPS * 3
    assert probe_set.tested.all()
    for fold in range(1, CLIP_FOLDS + 1):
        assert (
            np.bincount(probe_set.classes[probe_set.folds == fold]).tolist() == [MAX_CLIPS // CLIP_FOLDS] * 3
        )
    assert set(speakers(rows, frozenset({"speaker-0", "speaker-2"}), seed=1).classes) == {0, 1}
    few = make_store(sentences=MIN_CLIPS, seed=1).rows
    with pytest.raises(UserError, match="no two speakers with enough clips"):
        speakers(few, all_speakers(few), seed=1)


def test_unheard_speakers_are_tested_only_in_their_own_probes(
    make_store: Callable[..., Store],
) -> None:
    rows = make_store(sentences=60).rows
    sets = probe_sets(rows, frozenset({"speaker-2"}), seed=0)
    # One unheard speaker is not enough for a speaker probe.
    assert set(sets) == {"words, heard", "speakers, heard", "words, unheard"}
    speaker = rows["speaker"].to_numpy()
    for name in ("words, heard", "speakers, heard"):
        assert "speaker-2" not in set(speaker[sets[name].rows])
    unheard = sets["words, unheard"]
    assert set(speaker[unheard.rows[unheard.tested]]) == {"speaker-2"}


def test_the_table_compares_encoders(
    make_store: Callable[..., Store], make_model: Callable[..., Network]
) -> None:
    store = make_store(tuple(f"w{n}" for n in range(12)), sentences=60)
    encoders = {"other": make_model(1).encoder, "random": make_model(0).encoder}
    table = probe_table(encoders, store, 0, frozenset({"speaker-2"}))
    assert set(table["encoder"]) == {"random", "other"}
    assert {
        ("words", "heard"),
        ("speakers", "heard"),
        ("words", "unheard"),
        ("10 words by 1 clip", "unheard"),
    } <= set(zip(table["probe"], table["people"], strict=True))
    word_rows = table[table["probe"] == "words"]
    # Even random convolutions preserve much of a word.
    assert (word_rows["accuracy"] > 2 * word_rows["chance"]).all()
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
