"""Greedy decoding against collapsing by brute force; scores of given texts against torch."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from metavox.recognisers.conformer.network import Network
from metavox.recognize.decode import greedy, text_of, text_score

ALPHABET = " ab"


def path_probs(path: list[int], symbols: int = 4, sure: float = 0.7) -> torch.Tensor:
    probs = torch.full((len(path), symbols), (1 - sure) / (symbols - 1))
    probs[range(len(path)), path] = sure
    return probs.log()


def test_every_path_of_six_frames_is_collapsed_as_by_brute_force(
    make_model: Callable[..., Network],
) -> None:
    model = make_model(alphabet=ALPHABET)
    for path in itertools.product(range(4), repeat=6):
        text = "".join(ALPHABET[key - 1] for key, _ in itertools.groupby(path) if key)
        words = greedy(path_probs(list(path)), model)
        assert text_of(words) == " ".join(text.split())
        times = [t for w in words for t in (w.start_s, w.end_s)]
        assert times == sorted(times)
        assert all(0 <= t <= 6 * 0.04 + 1e-9 for t in times)
        assert all(w.start_s < w.end_s for w in words)


def test_times_are_those_of_the_frames_and_confidence_that_of_the_characters(
    make_model: Callable[..., Network],
) -> None:
    log_probs = path_probs([0, 2, 2, 0, 3, 1, 0, 2, 0])
    log_probs[4] = path_probs([3], sure=0.9)[0]
    first, second = greedy(log_probs, make_model(alphabet=ALPHABET))
    assert (first.text, second.text) == ("ab", "a")
    np.testing.assert_allclose([first.start_s, first.end_s], [0.04, 0.2])
    np.testing.assert_allclose([second.start_s, second.end_s], [0.28, 0.32])
    assert first.confidence == pytest.approx(0.8)
    assert second.confidence == pytest.approx(0.7)


@pytest.mark.parametrize("alphabet", ["б в", "бв ", "বা "])
def test_words_are_parted_in_any_alphabet(make_model: Callable[..., Network], alphabet: str) -> None:
    model = make_model(alphabet=alphabet)
    letter, space = (1 + alphabet.index(c) for c in (alphabet[0], " "))
    words = greedy(path_probs([letter, space, letter]), model)
    assert [w.text for w in words] == [alphabet[0]] * 2


def test_silence_is_no_word(make_model: Callable[..., Network]) -> None:
    model = make_model(alphabet=ALPHABET)
    assert greedy(path_probs([0] * 5), model) == []
    assert greedy(path_probs([1] * 5), model) == []


def test_a_text_is_scored_by_ctc_a_character() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(5, 4).log_softmax(1)
    for tokens in ([1], [1, 2], [2, 2], [3, 1, 2]):
        total = 0.0
        for path in itertools.product(range(4), repeat=5):
            if [key for key, _ in itertools.groupby(path) if key] == tokens:
                total += math.exp(sum(float(log_probs[i, s]) for i, s in enumerate(path)))
        assert text_score(log_probs, tokens) == pytest.approx(math.log(total) / len(tokens), rel=1e-4)


def test_what_cannot_have_been_said_scores_minus_infinity() -> None:
    log_probs = torch.zeros(3, 4).log_softmax(1)
    for tokens in ([], [1, 2, 3, 1], [1, 1, 1]):
        assert text_score(log_probs, tokens) == -math.inf


def test_the_text_that_was_said_scores_best() -> None:
    said = path_probs([0, 2, 2, 0, 3, 3, 0])
    scores = {t: text_score(said, list(t)) for t in ((2, 3), (3, 2), (2,), (2, 2))}
    assert max(scores, key=lambda t: scores[t]) == (2, 3)
