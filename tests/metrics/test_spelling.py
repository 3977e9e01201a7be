"""Recognition of words by their spelling alone."""

from collections.abc import Callable

import numpy as np
import torch

from metavox.dataset.episodes import Episode
from metavox.metrics.spelling import run_spelling_trials
from metavox.recognisers.conformer.decoding import text_scores
from metavox.recognisers.conformer.network import Network


def test_a_query_is_classified_as_the_likeliest_word_of_its_episode(
    make_model: Callable[..., Network],
) -> None:
    model = make_model()
    clips = [torch.randn(60, 16) for _ in range(4)]
    words = ("yes", "no", "perhaps")
    labels = np.array([0, 1, 2, 0])
    episode = Episode(words, np.zeros(0, int), np.zeros(0, int), np.arange(4), labels)
    trials = run_spelling_trials(model, [episode], clips.__getitem__)
    for row, guess in enumerate(trials.guess):
        with torch.inference_mode():
            characters, lengths = model.characters(clips[row][None], torch.tensor([60]))
        scores = text_scores(characters, lengths, [model.tokenizer.encode(word) for word in words])
        assert guess == int(scores[0].argmax())
    assert trials.truth.tolist() == labels.tolist()
