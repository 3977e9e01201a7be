"""Alphabets, greedy decoding, likelihoods, features and language codes, compared with independent implementations."""

import itertools
import math

import numpy as np
import pytest
import torch

from metavox.errors import UserError
from metavox.recognisers.ctc.alphabet import Alphabet
from metavox.recognisers.ctc.decode import greedy, losses, text_log_probs
from metavox.recognisers.ctc.features import FeatureExtractor
from metavox.recognisers.ctc.languages import choose, short_code
from tests.recognisers.ctc.conftest import speech


def alphabet_of(*tokens: str) -> Alphabet:
    return Alphabet.of({t: i for i, t in enumerate(tokens)}, "<pad>")


def test_an_alphabet_folds_case_unless_it_has_both_cases() -> None:
    upper = alphabet_of("<pad>", "<s>", "|", "A", "B", "É")
    assert upper.written == ("", "", " ", "a", "b", "é")
    assert upper.encode("  éa,B ") == [5, 3, 2, 4]
    mixed_case = alphabet_of("[PAD2]", "<pad>", "|", "A", "a", "b")
    assert mixed_case.cased
    assert mixed_case.blank == 1
    assert mixed_case.decode(mixed_case.encode("Ab Ba")) == "Ab a"
    assert mixed_case.missing(["Ab Ba"]) == "B"


def test_alphabet_prefers_the_longest_token() -> None:
    digraphs = alphabet_of("<pad>", "|", "c", "h", "ch", "-", ".")
    assert digraphs.encode("hch-c.") == [3, 4, 5, 2, 6]
    assert digraphs.missing(["chx, a!"]) == "ax"


def test_words_that_cannot_be_written_leave_no_space() -> None:
    alphabet = alphabet_of("<pad>", "|", "a")
    assert alphabet.decode(alphabet.encode("a xyz a")) == "a a"
    assert alphabet_of("<pad>", "a").encode("a a") == [1, 1]
    assert alphabet_of("<pad>", "a").missing(["a a"]) == " "


def test_invalid_alphabets_are_rejected() -> None:
    with pytest.raises(UserError, match="gaps"):
        Alphabet.of({"<pad>": 0, "a": 2}, "<pad>")
    with pytest.raises(UserError, match="blank"):
        Alphabet.of({"b": 0, "a": 1}, "<pad>")
    with pytest.raises(UserError, match="twice"):
        alphabet_of("<pad>", "a").extended("ba")


def test_best_path_gives_words_with_times_and_confidence() -> None:
    alphabet = alphabet_of("<pad>", "<s>", "|", "a", "b")
    path = [0, 3, 3, 0, 3, 1, 4, 2, 2, 0, 4, 4]
    probabilities = torch.full((len(path), 5), 0.05)
    probabilities[range(len(path)), path] = 0.8
    words = greedy(probabilities.log(), alphabet, 0.02)
    assert [word.text for word in words] == ["aab", "b"]
    np.testing.assert_allclose([(w.start_s, w.end_s) for w in words], [(0.02, 0.14), (0.2, 0.24)])
    np.testing.assert_allclose([w.confidence for w in words], 0.8, rtol=1e-5)
    assert greedy(torch.zeros(0, 5), alphabet, 0.02) == []


def likelihood(log_probs: np.ndarray, text: list[int], blank: int) -> float:
    """The log-likelihood of a text, summed over every path."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        merged = [token for i, token in enumerate(path) if i == 0 or token != path[i - 1]]
        if [token for token in merged if token != blank] == text:
            total += math.exp(sum(log_probs[i, token] for i, token in enumerate(path)))
    return math.log(total) if total else -math.inf


@pytest.mark.parametrize("blank", [0, 2])
def test_likelihoods_are_sums_over_all_paths(blank: int) -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(5, 3).log_softmax(dim=1)
    letters = [i for i in range(3) if i != blank]
    texts = [letters, letters[:1] * 2, letters[::-1], letters * 3]
    scores = text_log_probs(log_probs, texts, blank)
    expected = [likelihood(log_probs.numpy(), text, blank) / len(text) for text in texts]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)
    assert expected[-1] == -math.inf
    total, count = losses(log_probs.expand(4, -1, -1), torch.full((4,), 5), texts, blank)
    np.testing.assert_allclose(
        float(total), -sum(e * len(t) for e, t in zip(expected[:3], texts, strict=False)), rtol=1e-5
    )
    assert int(count) == sum(map(len, texts[:3]))


def test_the_loss_of_an_empty_text_is_that_of_blanks() -> None:
    log_probs = torch.full((1, 4, 3), 1 / 3).log()
    total, count = losses(log_probs, torch.tensor([4]), [[]], 0)
    assert float(total) == pytest.approx(4 * math.log(3))
    assert int(count) == 1


@pytest.mark.parametrize("seconds", [1.0, 1.017, 0.4])
def test_log_mels_match_the_published_extractor(seconds: float) -> None:
    from transformers import SeamlessM4TFeatureExtractor

    samples = speech(seconds)
    theirs = SeamlessM4TFeatureExtractor()(samples, sampling_rate=16000, return_tensors="pt")
    expected = theirs["input_features"][0][theirs["attention_mask"][0].bool()]
    ours = FeatureExtractor(mels=True).inputs(samples)
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("mels", [True, False])
def test_steps_match_the_inputs(mels: bool) -> None:
    feature_extractor = FeatureExtractor(mels=mels)
    for count in (0, 1, 1599, 1600, 1839, 1840, 2000, 16000, 16319, 16320):
        assert feature_extractor.steps(count) == len(feature_extractor.inputs(np.zeros(count, np.float32)))


def test_samples_match_the_published_normalisation() -> None:
    from transformers import Wav2Vec2FeatureExtractor

    samples = speech(0.5) + 0.1
    expected = Wav2Vec2FeatureExtractor(do_normalize=True)(samples, sampling_rate=16000).input_values[0]
    np.testing.assert_allclose(FeatureExtractor().inputs(samples).numpy(), expected, atol=1e-4)
    np.testing.assert_array_equal(FeatureExtractor(normalise=False).inputs(samples).numpy(), samples)


def test_language_codes_of_two_or_three_letters() -> None:
    available = ["eng", "ita", "uzb-script_cyrillic", "uzb-script_latin", "abi"]
    chosen = [choose(code, available, "eng") for code in ("", "it", "ita", "uz", "abi")]
    assert chosen == ["eng", "ita", "ita", "uzb-script_latin", "abi"]
    assert [short_code(code) for code in ("eng", "uzb-script_latin", "abi", "it")] == [
        "en",
        "uz",
        "abi",
        "it",
    ]
