"""Tasks that need adapting: what training, development and test share, and that a seed decides everything."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from metavox.adaptation.adverse_tasks import ACCENTS, LEARNED, AdverseTasks
from metavox.audio.conditions import CLEAN, SPLITS, Split
from metavox.errors import UserError
from tests.small_corpus import RATE_HZ, SPEAKERS, write_corpus

COUNT = 60


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_corpus(tmp_path)


@pytest.fixture
def tasks(manifest: Path) -> Callable[[Split], AdverseTasks]:
    return lambda split: AdverseTasks(manifest, split, RATE_HZ, lambda samples, random: -samples)


def test_splits_share_no_speaker_voice_accent_or_condition(
    tasks: Callable[[Split], AdverseTasks],
) -> None:
    planned = {split: tasks(split).plan(COUNT, 10, seed=0) for split in SPLITS}
    for split in SPLITS:
        real = {task.speaker for task in planned[split] if not task.accent}
        assert real == {name for name, own in SPEAKERS.items() if own == split}
        assert {task.accent for task in planned[split]} - {""} == set(ACCENTS[split])
        assert ({task.condition for task in planned[split]} >= {LEARNED}) == (split == "train")
    for attribute in ("speaker", "variant", "accent", "condition", "rows"):
        values = [{getattr(task, attribute) for task in planned[split]} - {CLEAN, ""} for split in SPLITS]
        assert all(values)
        for i in range(len(SPLITS)):
            assert not values[i] & set().union(*values[:i], *values[i + 1 :])


def test_only_training_changes_vocal_tracts(tasks: Callable[[Split], AdverseTasks]) -> None:
    changed = {split: [t.warp != 1.0 for t in tasks(split).plan(COUNT, 5, 0)] for split in SPLITS}
    assert sum(changed["train"]) > COUNT / 2
    assert not any(changed["dev"] + changed["test"])


def test_a_task_depends_on_its_seed_and_index_alone(tasks: Callable[[Split], AdverseTasks]) -> None:
    train = tasks("train")
    assert train.plan(3, 4, seed=1) == train.plan(9, 4, seed=1)[:3]
    assert train.plan(3, 4, seed=1) != train.plan(3, 4, seed=2)
    for spec in train.plan(6, 2, seed=0):
        one, two = train.render(spec), tasks("train").render(spec)
        assert one.texts == two.texts
        assert len(one) == 2
        for a, b in zip(one.audio, two.audio, strict=True):
            assert isinstance(a, np.ndarray)
            assert np.array_equal(a, b)
            assert a.dtype == np.float32
            assert np.isfinite(a).all()
            assert np.std(a) > 1e-3


def test_more_recordings_continue_the_same_task(tasks: Callable[[Split], AdverseTasks]) -> None:
    few, many = (tasks("test").plan(COUNT, count, seed=0) for count in (3, 8))
    assert all(a.rows == b.rows[:3] for a, b in zip(few, many, strict=True))


def test_a_split_without_enough_sentences_is_refused(manifest: Path) -> None:
    rows = pd.read_csv(manifest, keep_default_na=False)
    rows[rows["split"] != "dev"].to_csv(manifest, index=False)
    with pytest.raises(UserError, match="no dev speaker has 10 English sentences"):
        AdverseTasks(manifest, "dev", RATE_HZ)
