"""Figures against values worked out by hand, and intervals against simulation."""

import numpy as np
import pytest

from metavox.metrics.rates import (
    Errors,
    character_errors,
    classification,
    confusion,
    mean_interval,
    word_errors,
)

TEXTS = ["the cat sat", "да нет", "a", "don't stop"]


def edit_distance(a: list[str] | str, b: list[str] | str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        left = row[0]
        row[0] = i
        for j, y in enumerate(b, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (x != y))
    return row[-1]


@pytest.mark.parametrize("errors", [word_errors, character_errors])
def test_equal_text_is_0_an_empty_guess_1_and_form_does_not_count(errors) -> None:  # type: ignore[no-untyped-def]
    assert errors(TEXTS, TEXTS).rate == 0
    assert errors(TEXTS, [""] * 4).rate == 1
    assert errors(["Don’t  STOP!"], ["don't stop"]).rate == 0


@pytest.mark.parametrize("seed", range(5))
def test_edits_are_those_of_a_second_implementation(seed: int) -> None:
    random = np.random.default_rng(seed)
    guesses = [
        " ".join(random.permutation([*text.split(), "cat", "x"])[: random.integers(4)]) for text in TEXTS
    ]
    words, characters = word_errors(TEXTS, guesses), character_errors(TEXTS, guesses)
    assert words.edits.tolist() == [
        edit_distance(a.split(), b.split()) for a, b in zip(TEXTS, guesses, strict=True)
    ]
    assert characters.edits.tolist() == [edit_distance(a, b) for a, b in zip(TEXTS, guesses, strict=True)]
    assert words.lengths.tolist() == [3, 2, 1, 2]
    assert characters.lengths.tolist() == [len(text) for text in TEXTS]
    # As many edits lead back.
    assert word_errors(["a", *guesses], ["a", *TEXTS]).edits[1:].tolist() == words.edits.tolist()


def test_an_empty_reference_counts_what_was_invented() -> None:
    errors = word_errors(["", "a b"], ["x y", "a b"])
    assert (errors.edits.tolist(), errors.lengths.tolist(), errors.rate) == ([2, 0], [0, 2], 1.0)


def test_the_rate_is_a_ratio_of_sums_and_sets_add_up() -> None:
    long, short = word_errors(["a b c d e f g h i"], ["a b c d e f g h i"]), word_errors(["a"], ["b"])
    assert (long + short).rate == pytest.approx(0.1)


def test_classification_by_hand() -> None:
    truth, guess = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
    assert confusion(truth, guess, 3).tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    scores = classification(truth, guess, 3)
    assert scores.accuracy == pytest.approx(3 / 6)
    assert scores.precision == pytest.approx((2 / 4 + 1 / 2 + 0) / 3)
    assert scores.recall == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert scores.f1 == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)


def test_all_right_is_1_all_wrong_is_0_and_absent_classes_do_not_count() -> None:
    truth = np.array([0, 1, 1])
    for classes in (2, 5):
        right = classification(truth, truth, classes)
        assert (right.accuracy, right.precision, right.recall, right.f1) == (1, 1, 1, 1)
    wrong = classification(truth, 1 - truth, 2)
    assert (wrong.accuracy, wrong.precision, wrong.recall, wrong.f1) == (0, 0, 0, 0)


def test_the_interval_of_a_mean_covers_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        interval = mean_interval(random.random(60) < 0.7)
        covered += abs(interval.mean - 0.7) <= interval.ci95
    assert 0.91 <= covered / 500 <= 0.98


def test_the_bootstrap_of_a_rate_covers_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for number in range(200):
        lengths = random.integers(1, 12, 60)
        interval = Errors(random.binomial(lengths, 0.3), lengths).interval(number, 200)
        covered += abs(interval.mean - 0.3) <= interval.ci95
    assert 0.88 <= covered / 200 <= 0.99


def test_one_value_has_no_spread_and_the_seed_fixes_the_bootstrap() -> None:
    assert mean_interval([0.5]).as_dict() == {"mean": 0.5, "ci95": 0.0}
    errors = Errors(np.array([1, 0, 3]), np.array([3, 2, 4]))
    assert errors.interval(1) == errors.interval(1)
    assert str(mean_interval([0.0, 1.0])) == "50.0 ± 98.0"
