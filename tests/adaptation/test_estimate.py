"""Cross-validation: folds, error counts and intervals."""

import numpy as np
import pytest
import torch

from metavox.adaptation.estimate import Estimate, assign_folds, estimate_errors, proportion
from metavox.adaptation.fine_tune import Recordings
from metavox.recognisers.transcript import Segment, Transcript


def single(loss: float, words: tuple[int, int], characters: tuple[int, int]) -> Estimate:
    """An estimate from one recording; `words` and `characters` are (edits, length)."""
    counts = {"words": words, "characters": characters}
    return Estimate(
        loss,
        {unit: np.array([n[0]]) for unit, n in counts.items()},  # type: ignore[misc]
        {unit: np.array([n[1]]) for unit, n in counts.items()},  # type: ignore[misc]
    )


def test_identical_recordings_are_held_out_together_and_labels_are_spread() -> None:
    fold_numbers = assign_folds([b"1", b"1", b"2", b"3"], 3)
    assert fold_numbers[0] == fold_numbers[1]
    assert len(set(fold_numbers.tolist())) == 3
    labelled = assign_folds([b"1", b"2", b"9", b"9"], 5, ["a", "a", "b", "b"])
    assert set(labelled[:2].tolist()) == {0, 1}
    assert set(labelled[2:].tolist()) == {-1}, "b has only one distinct recording, so it is never held out"


@pytest.mark.parametrize(("count", "folds"), [(4, 2), (5, 3), (20, 5), (3, 5)])
def test_folds_are_of_equal_size_and_numbered_without_gaps(count: int, folds: int) -> None:
    fold_numbers = assign_folds([bytes([i]) for i in range(count)], folds)
    sizes = np.bincount(fold_numbers)
    assert len(sizes) == min(count, folds)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("folds", [0, 1])
def test_without_folds_nothing_is_held_out(folds: int) -> None:
    assert assign_folds([b"1", b"2", b"3"], folds).max() <= 0


def test_ten_correct_out_of_ten_still_has_an_interval() -> None:
    all_correct = proportion(np.ones(10, bool))
    assert all_correct["mean"] == all_correct["high"] == 1
    assert 0.70 < all_correct["low"] < 0.73  # Wilson 1927: 10 / (10 + 1.96 ** 2)


class FixedTranscripts:
    """A recogniser with a fixed transcript and loss for each recording."""

    def __init__(self, transcripts: dict[int, str], losses: dict[int, float]):
        self.transcripts, self.losses = transcripts, losses

    def loss(self, audio: list[int], texts: list[str]) -> torch.Tensor:
        weights = [len(text) for text in texts]
        return torch.tensor(np.average([self.losses[recording] for recording in audio], weights=weights))

    def transcribe(self, audio: list[int]) -> list[Transcript]:
        return [
            Transcript((Segment(self.transcripts[recording], 0.0, 1.0, 1.0),), 1.0) for recording in audio
        ]


def test_errors_ignore_punctuation_and_case() -> None:
    references = ["One, two three.", "four", "it's"]
    transcripts = {0: "one too THREE", 1: "", 2: "It’s!"}
    estimate = estimate_errors(
        FixedTranscripts(transcripts, {0: 1.0, 1: 2.0, 2: 6.0}), Recordings([0, 1, 2], references)
    )  # type: ignore[arg-type]
    assert estimate.edits["words"].tolist() == [1, 1, 0]
    assert estimate.lengths["words"].tolist() == [3, 1, 1]
    assert estimate.edits["characters"].tolist() == [1, 4, 0]
    assert estimate.lengths["characters"].tolist() == [13, 4, 4]
    assert estimate.word_error_rate == pytest.approx(2 / 5)
    assert estimate.loss == pytest.approx((15 * 1 + 4 * 2 + 4 * 6) / 23)


def test_many_recordings_are_evaluated_in_batches() -> None:
    recogniser = FixedTranscripts(dict.fromkeys(range(19), "a b"), {i: float(i) for i in range(19)})
    estimate = estimate_errors(recogniser, Recordings(list(range(19)), ["a c"] * 19))  # type: ignore[arg-type]
    assert estimate.loss == pytest.approx(9.0)
    assert estimate.edits["words"].tolist() == [1] * 19


def test_pooling_weighs_recordings_and_not_folds() -> None:
    pooled = Estimate.pooled([single(1.0, (1, 10), (3, 30)), single(4.0, (2, 2), (6, 10))])
    assert pooled.loss == pytest.approx((30 * 1.0 + 10 * 4.0) / 40)
    assert pooled.rate("words")["mean"] == pytest.approx(3 / 12)
    assert pooled.rate("characters")["mean"] == pytest.approx(9 / 40)


def test_words_rank_first_then_characters_then_loss() -> None:
    ranked = [
        single(9.0, (1, 9), (9, 30)),
        single(9.0, (2, 9), (3, 30)),
        single(1.0, (2, 9), (4, 30)),
        single(2.0, (2, 9), (4, 30)),
    ]
    assert (
        sorted([ranked[i] for i in (2, 0, 3, 1)], key=lambda estimate: estimate.rank("word_errors")) == ranked
    )
    assert min(ranked, key=lambda estimate: estimate.rank("loss")) is ranked[2]


def test_clearly_better_means_beyond_the_paired_standard_error() -> None:
    def with_word_errors(*words: int) -> Estimate:
        return Estimate.pooled([single(1.0, (edits, 4), (edits, 20)) for edits in words])

    baseline = with_word_errors(3, 1, 2, 2)
    assert with_word_errors(2, 0, 1, 1).clearly_better(baseline, "word_errors"), (
        "one error fewer in every recording"
    )
    assert with_word_errors(1, 0, 2, 1).clearly_better(baseline, "word_errors")
    assert not with_word_errors(2, 1, 2, 2).clearly_better(baseline, "word_errors"), (
        "one error fewer in one recording"
    )
    assert not with_word_errors(0, 3, 2, 2).clearly_better(baseline, "word_errors"), (
        "fewer errors in one recording, more in another"
    )
    assert not baseline.clearly_better(baseline, "word_errors")
    assert not baseline.clearly_better(with_word_errors(2, 0, 1, 1), "word_errors")
    assert single(0.9, (3, 4), (3, 20)).clearly_better(single(1.0, (1, 4), (1, 20)), "loss")


def test_the_interval_of_a_rate_has_its_nominal_coverage() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 15, (400, 60))
    difficulty = random.beta(1, 4, lengths.shape)  # so that errors cluster in some recordings
    edits = random.binomial(lengths, difficulty)
    covered = []
    for length, count in zip(lengths, edits, strict=True):
        counts = {"words": count, "characters": count}
        rate = Estimate(0.0, counts, {"words": length, "characters": length}).rate("words")  # type: ignore[arg-type]
        covered.append(abs(rate["mean"] - 0.2) <= rate["ci95"])
    assert 0.9 < np.mean(covered) < 0.98


def test_an_empty_reference_does_not_divide_by_zero() -> None:
    rate = single(1.0, (2, 0), (5, 0)).rate("words")
    assert np.isfinite(list(rate.values())).all()
