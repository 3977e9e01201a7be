"""Words in a stream: found where they are, once, whatever the chunks; and thresholds for false accepts an hour."""

import numpy as np
import pytest
import torch
from spoken import RATE, spoken

from metavox.enrolment.enrol import EnrolConfig, enrol
from metavox.recognisers.bases.find import default_embedder
from metavox.recognisers.delta import Vocabulary
from metavox.recognisers.recogniser import WordEmbedder
from metavox.recognition.spotting import Spotter, best_scores, threshold_for

WORDS = ("lantern", "october")
OTHERS = (
    "we will go home now",
    "nobody knows the way",
    "there is a house on the hill",
    "it was raining all day",
)


@pytest.fixture(scope="module")
def embedder() -> WordEmbedder:
    torch.set_num_threads(1)
    loaded = default_embedder().load()
    assert isinstance(loaded, WordEmbedder)
    return loaded


@pytest.fixture(scope="module")
def vocabulary(embedder: WordEmbedder) -> Vocabulary:
    clips = [(word, spoken(word, seed=seed)) for word in WORDS for seed in (1, 2, 3)]
    delta = enrol(
        embedder, [clip for _, clip in clips], [word for word, _ in clips], EnrolConfig("prototypes")
    )
    assert delta.vocabulary is not None
    return delta.vocabulary


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def stream() -> tuple[np.ndarray, list[tuple[str, float]]]:
    """A stream with each word twice among other speech, and where the words are."""
    parts, places, at = [quiet(1.0)], [], 1.0
    for i, (word, other) in enumerate(zip((*WORDS, *WORDS), OTHERS, strict=True)):
        for text in (other, word):
            samples = spoken(text, seed=9 if text == word else 4)
            if text == word:
                places.append((word, at + len(samples) / RATE / 2))
            parts += [samples, quiet(0.5 + 0.1 * i)]
            at += (len(samples) + len(parts[-1])) / RATE
    return np.concatenate(parts), places


def spotted(spotter: Spotter, samples: np.ndarray, chunk: int) -> list[tuple[str, float, float, float]]:
    found = [one for i in range(0, len(samples), chunk) for one in spotter.push(samples[i : i + chunk])]
    return [(o.word, o.start_s, o.end_s, o.score) for o in [*found, *spotter.end()]]


def test_words_are_found_where_they_are(embedder: WordEmbedder, vocabulary: Vocabulary) -> None:
    samples, places = stream()
    other = np.concatenate([part for text in OTHERS for part in (spoken(text, seed=4), quiet(0.6))])
    scores = best_scores(Spotter(embedder, vocabulary, every_s=2.0), [other])
    threshold = max(scores) + 0.2
    found = spotted(Spotter(embedder, vocabulary, threshold, every_s=2.0), samples, 16_000)
    assert [word for word, *_ in found] == [word for word, _ in places]
    for (_, start_s, end_s, score), (_, middle_s) in zip(found, places, strict=True):
        assert start_s < middle_s < end_s
        assert score >= threshold


@pytest.mark.parametrize("chunk", [777, 16_000, 10**9])
def test_what_is_found_does_not_depend_on_chunks(
    embedder: WordEmbedder, vocabulary: Vocabulary, chunk: int
) -> None:
    samples = stream()[0][: 8 * RATE]
    one = spotted(Spotter(embedder, vocabulary, 0.3), samples, 1280)
    other = spotted(Spotter(embedder, vocabulary, 0.3), samples, chunk)
    assert [(word, start_s) for word, start_s, *_ in one] == [(word, start_s) for word, start_s, *_ in other]
    np.testing.assert_allclose([o[3] for o in one], [o[3] for o in other], atol=1e-4)


def test_memory_does_not_grow_and_silence_costs_nothing(
    embedder: WordEmbedder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    spotter = Spotter(embedder, vocabulary)
    monkeypatch.setattr(type(embedder), "score_words", lambda *_: pytest.fail("silence is not compared"))
    for _ in range(20):
        assert list(spotter.push(quiet(10.0))) == []
    assert len(spotter._samples) < 3 * RATE
    assert spotter.heard_s == pytest.approx(200.0)


@pytest.mark.parametrize(("rate", "accepted"), [(0.0, 0), (1.0, 2), (2.5, 5)])
def test_a_threshold_allows_so_many_false_accepts(rate: float, accepted: int) -> None:
    scores = sorted(np.random.default_rng(0).normal(size=30).tolist(), reverse=True)
    threshold = threshold_for(scores, hours=2.0, false_accepts_per_hour=rate)
    assert sum(score >= threshold for score in scores) == accepted
