"""Greedy decoding matches brute force, and CTC scores of texts match sums over all paths."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from metavox.recognisers.conformer.decoding import (
    MIN_LOG_PROB,
    ctc_loss,
    greedy,
    text_of,
    text_scores,
)
from metavox.recognisers.conformer.network import Network

ALPHABET = " ab"


def text_score(log_probs: torch.Tensor, tokens: list[int]) -> float:
    """The score of one text for one clip (frames, alphabet)."""
    return float(text_scores(log_probs[None], torch.tensor([len(log_probs)]), [tokens])[0, 0])


def path_probs(path: list[int], symbols: int = 4, confidence: float = 0.7) -> torch.Tensor:
    probs = torch.full((len(path), symbols), (1 - confidence) / (symbols - 1))
    probs[range(len(path)), path] = confidence
    return probs.log()


def test_decoding_every_path_of_six_frames_matches_brute_force(
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


def test_word_times_and_confidences(
    make_model: Callable[..., Network],
) -> None:
    log_probs = path_probs([0, 2, 2, 0, 3, 1, 0, 2, 0])
    log_probs[4] = path_probs([3], confidence=0.9)[0]
    first, second = greedy(log_probs, make_model(alphabet=ALPHABET))
    assert (first.text, second.text) == ("ab", "a")
    np.testing.assert_allclose([first.start_s, first.end_s], [0.04, 0.2])
    np.testing.assert_allclose([second.start_s, second.end_s], [0.28, 0.32])
    assert first.confidence == pytest.approx(0.8)
    assert second.confidence == pytest.approx(0.7)


@pytest.mark.parametrize("alphabet", ["б в", "бв ", "বা "])
def test_words_are_separated_in_any_alphabet(make_model: Callable[..., Network], alphabet: str) -> None:
    model = make_model(alphabet=alphabet)
    letter, space = (1 + alphabet.index(c) for c in (alphabet[0], " "))
    words = greedy(path_probs([letter, space, letter]), model)
    assert [w.text for w in words] == [alphabet[0]] * 2


def test_blanks_and_spaces_give_no_word(make_model: Callable[..., Network]) -> None:
    model = make_model(alphabet=ALPHABET)
    assert greedy(path_probs([0] * 5), model) == []
    assert greedy(path_probs([1] * 5), model) == []


def test_a_text_score_is_the_sum_over_all_paths_per_character() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(5, 4).log_softmax(1)
    for tokens in ([1], [1, 2], [2, 2], [3, 1, 2]):
        total = 0.0
        for path in itertools.product(range(4), repeat=5):
            if [key for key, _ in itertools.groupby(path) if key] == tokens:
                total += math.exp(sum(float(log_probs[i, s]) for i, s in enumerate(path)))
        assert text_score(log_probs, tokens) == pytest.approx(math.log(total) / len(tokens), rel=1e-4)


def test_impossible_texts_get_the_lowest_score() -> None:
    log_probs = torch.zeros(3, 4).log_softmax(1)
    for tokens in ([], [1, 2, 3, 1], [1, 1, 1]):
        assert text_score(log_probs, tokens) == MIN_LOG_PROB


def test_the_spoken_text_scores_best() -> None:
    log_probs = path_probs([0, 2, 2, 0, 3, 3, 0])
    scores = {t: text_score(log_probs, list(t)) for t in ((2, 3), (3, 2), (2,), (2, 2))}
    assert max(scores, key=lambda t: scores[t]) == (2, 3)


def test_batched_scores_equal_single_scores() -> None:
    torch.manual_seed(1)
    clips = [torch.randn(frames, 4).log_softmax(1) for frames in (9, 6, 3)]
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True, padding_value=5.0)
    texts = [[1], [1, 2], [2, 2], [], [3, 1, 2, 3], [1, 1, 1]]
    scores = text_scores(padded, torch.tensor([9, 6, 3]), texts)
    assert scores.shape == (3, 6)
    for row, clip in zip(scores, clips, strict=True):
        for score, tokens in zip(row.tolist(), texts, strict=True):
            assert score == pytest.approx(text_score(clip, tokens), rel=1e-4)


def test_text_scores_are_ctc_log_likelihoods_per_character() -> None:
    probabilities = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    # "a" in two frames: a-blank, blank-a, a-a.
    expected = np.log(0.8 * 0.5 + 0.2 * 0.5 + 0.8 * 0.5)
    scores = text_scores(probabilities.log()[None], torch.tensor([2]), [[1], [], [1, 1, 1]])
    assert scores[0, 0] == pytest.approx(expected, abs=1e-5)
    assert scores[0, 1:].tolist() == [MIN_LOG_PROB, MIN_LOG_PROB], (
        "an empty text, and one that is too long for the frames"
    )


def test_the_loss_is_per_character_and_ignores_texts_that_are_too_long() -> None:
    torch.manual_seed(2)
    clips, lengths = torch.randn(3, 8, 4).log_softmax(2).requires_grad_(True), torch.tensor([8, 5, 2])
    tokens = [[1, 2, 3], [2], [1, 1, 2]]
    loss = ctc_loss(clips, lengths, tokens)
    scores = [text_score(clips[i, : lengths[i]].detach(), tokens[i]) for i in range(2)]
    assert float(loss.detach()) == pytest.approx(-(3 * scores[0] + scores[1]) / 4, rel=1e-4)
    loss.backward()
    assert clips.grad is not None
    assert torch.isfinite(clips.grad).all()
    assert clips.grad[0].any()
    assert not clips.grad[2].any()
    assert float(ctc_loss(clips[2:], lengths[2:], tokens[2:]).detach()) == 0
