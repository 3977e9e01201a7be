"""Batches contain every row once per epoch, stay within the budget, and depend on seed and step alone."""

import itertools

import numpy as np
import pytest

from metavox.dataset.batches import EndlessBatches, length_batches, pair_batches


def lengths(size: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(4.5, 0.8, size).astype(int).clip(5, 1200)


@pytest.mark.parametrize("mixing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_in_exactly_one_batch_within_the_budget(seed: int, mixing: float) -> None:
    frames = lengths(seed=seed)
    batches = length_batches(frames, 3000, seed, mixing)
    assert sorted(np.concatenate(batches).tolist()) == list(range(300))
    assert all(len(b) for b in batches)
    assert all(frames[b].max() * len(b) <= 3000 for b in batches)


def test_one_long_recording_does_not_make_a_huge_batch() -> None:
    frames = np.array([10] * 90 + [400])
    batches = length_batches(frames, 900, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(91))
    assert max(frames[b].max() * len(b) for b in batches) <= 900


def test_a_recording_over_the_budget_is_alone_in_its_batch() -> None:
    frames = np.array([10, 10, 5000])
    assert sorted(len(b) for b in length_batches(frames, 1000, 0)) == [1, 2]


def test_no_batch_is_tiny() -> None:
    """Batch normalisation needs several clips, and a step on one clip teaches nothing."""
    for size in range(2, 60):
        batches = length_batches(np.full(size, 10), 100, 0)
        assert min(map(len, batches)) >= 2 or size < 2


def test_less_mixing_means_less_padding() -> None:
    frames = lengths(2000)
    waste = [
        sum(frames[b].max() * len(b) for b in length_batches(frames, 5000, 0, mixing)) / frames.sum()
        for mixing in (0.0, 0.9)
    ]
    assert waste[0] < 1.1 < waste[1]


def test_the_seed_decides_which_rows_share_a_batch() -> None:
    frames = lengths()
    as_sets = [{frozenset(b.tolist()) for b in length_batches(frames, 3000, seed)} for seed in (1, 1, 2)]
    assert as_sets[0] == as_sets[1] != as_sets[2]


def test_a_step_does_not_depend_on_earlier_calls() -> None:
    frames = lengths(100)
    forward = [b.tolist() for b in itertools.islice(EndlessBatches(frames, 2000, 7), 40)]
    jumping = EndlessBatches(frames, 2000, 7)
    for step in (35, 3, 39, 0, 17, 17):
        assert jumping(step).tolist() == forward[step]
    assert EndlessBatches(frames, 2000, 8)(0).tolist() != forward[0]


def test_each_epoch_holds_every_row_and_differs_from_the_last() -> None:
    frames = lengths(100)
    size = len(length_batches(frames, 2000, 7 * 1000))
    endless = iter(EndlessBatches(frames, 2000, 7))
    first = np.concatenate([next(endless) for _ in range(size)])
    second = np.concatenate([next(endless) for _ in range(len(length_batches(frames, 2000, 7 * 1000 + 1)))])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_together_yield_the_batches_of_one_process(world: int) -> None:
    frames = lengths(100)
    alone = EndlessBatches(frames, 2000, 7)
    ranks = [EndlessBatches(frames, 2000, 7, rank=rank, world=world) for rank in range(world)]
    shared = [rank(step).tolist() for step in range(48 // world) for rank in ranks]
    assert shared == [alone(step).tolist() for step in range(48)]


def test_a_rank_resumes_in_the_middle_of_an_epoch() -> None:
    frames = lengths(100)
    uninterrupted = EndlessBatches(frames, 2000, 7, rank=1, world=3)
    forward = [uninterrupted(step).tolist() for step in range(30)]
    resumed = EndlessBatches(frames, 2000, 7, rank=1, world=3)
    assert [resumed(step).tolist() for step in range(17, 30)] == forward[17:]


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        EndlessBatches(np.array([], int), 100, 0)


def test_pairs_share_a_label_and_use_each_row_once_except_an_odd_one() -> None:
    random = np.random.default_rng(0)
    labels, frames = random.integers(0, 40, 500), random.integers(20, 90, 500)
    batches = pair_batches(labels, frames, 1200, 3)
    rows = np.concatenate(batches)
    assert len(np.unique(rows)) == len(rows) == (np.bincount(labels) // 2 * 2).sum()
    for batch in batches:
        assert (labels[batch[::2]] == labels[batch[1::2]]).all()
        assert len(batch) * frames[batch].max() <= 1200 + 90
    again, other = pair_batches(labels, frames, 1200, 3), pair_batches(labels, frames, 1200, 4)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not np.array_equal(rows[:50], np.concatenate(other)[:50])
