"""Every CTC architecture matches transformers, alone and in batches; long recordings and word times."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metavox.errors import UserError
from metavox.recognisers.ctc.folder import load
from metavox.recognisers.ctc.recogniser import CtcRecogniser, batches
from metavox.recognisers.recogniser import DecodeOptions
from tests.recognisers.ctc.conftest import ALL, ARCHITECTURES, LETTERS, make_network, speech


def log_probs_of(recogniser: CtcRecogniser, clips: list[np.ndarray]) -> list[torch.Tensor]:
    out: list[Any] = [None] * len(clips)
    with torch.no_grad():
        for indices, rows, lengths in recogniser._batches(clips):
            for i, row, length in zip(indices, rows, lengths.tolist(), strict=True):
                out[i] = row[:length]
    return out


@pytest.mark.parametrize("name", ALL)
def test_log_probabilities_match_transformers(name: str, make_folder: Callable[..., Path]) -> None:
    recogniser = load(make_folder(name), name, "d" * 64)
    samples = speech(1.3)
    theirs = make_network(name)
    inputs = recogniser.feature_extractor.inputs(samples)[None]
    with torch.no_grad():
        expected = theirs(inputs).logits.log_softmax(dim=2)[0]
    torch.testing.assert_close(log_probs_of(recogniser, [samples])[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_a_clip_has_the_same_log_probabilities_alone_and_in_a_batch(
    name: str, make_folder: Callable[..., Path]
) -> None:
    recogniser = load(make_folder(name), name, "d" * 64)
    assert recogniser.network.pads is ARCHITECTURES[name][2]
    clips = [speech(seconds, seed) for seed, seconds in enumerate((1.0, 2.3, 0.7, 1.0))]
    batched = log_probs_of(recogniser, clips)
    for clip, log_probs in zip(clips, batched, strict=True):
        torch.testing.assert_close(log_probs, log_probs_of(recogniser, [clip])[0], atol=1e-4, rtol=1e-4)


def test_batches_respect_the_budget_and_equal_lengths() -> None:
    lengths = [5, 3, 5, 9, 3]
    assert list(batches(lengths, 10, pads=True)) == [[1, 4], [0, 2], [3]]
    assert list(batches(lengths, 100, pads=True)) == [[1, 4, 0, 2, 3]]
    assert list(batches(lengths, 100, pads=False)) == [[1, 4], [0, 2], [3]]
    assert list(batches([], 100, pads=False)) == []


def test_long_recordings_and_word_times(make_folder: Callable[..., Path]) -> None:
    recogniser = load(make_folder("xls-r"), "xls-r", "d" * 64)
    long = np.concatenate([speech(19), np.zeros(4000, np.float32), speech(24, 1)])
    short, silent = speech(1.5, 2), np.zeros(16000, np.float32)
    transcripts = recogniser.transcribe([long, silent, short], DecodeOptions(word_times=True))
    assert [t.duration_s for t in transcripts] == [len(long) / 16000, 1.0, 1.5]
    assert len(transcripts[0].segments) > 2
    assert transcripts[1].text == ""
    words = [word for segment in transcripts[0].segments for word in segment.words]
    assert all(w.start_s < w.end_s <= 43.25 and 0 < w.confidence <= 1 for w in words)
    assert [w.start_s for w in words] == sorted(w.start_s for w in words)
    assert words[-1].end_s > 40
    assert transcripts[2].text == recogniser.transcribe([short])[0].text
    encoded = recogniser.encode([long, silent, short])
    assert recogniser.transcribe(encoded, DecodeOptions(word_times=True)) == transcripts
    texts = ["a", "rain"]
    assert torch.equal(
        recogniser.text_log_probs(encoded, texts), recogniser.text_log_probs([long, silent, short], texts)
    )
    assert all(not s.words for s in recogniser.transcribe([short])[0].segments)


@pytest.mark.parametrize("name", ["xls-r", "w2v-bert"])
def test_very_short_clips(name: str, make_folder: Callable[..., Path]) -> None:
    recogniser = load(make_folder(name), name, "d" * 64)
    clips = [np.zeros(0, np.float32), np.full(1, 0.5, np.float32), speech(0.03)]
    assert [t.duration_s for t in recogniser.transcribe(clips)] == [0.0, 1 / 16000, 0.03]
    assert torch.isfinite(recogniser.loss(clips, ["", "a", "b"]))


def test_translation_is_rejected(make_folder: Callable[..., Path]) -> None:
    recogniser = load(make_folder("xls-r"), "xls-r", "d" * 64)
    with pytest.raises(UserError, match="does not translate"):
        recogniser.transcribe([speech(0.5)], DecodeOptions(task="translate"))


@pytest.mark.parametrize("head", [True, False])
def test_loss_and_likelihoods_agree(head: bool, make_folder: Callable[..., Path]) -> None:
    recogniser = load(make_folder("xls-r", head=head), "xls-r", "d" * 64)
    texts = ["a nice day", "rain", "a nice day " * 40]
    recogniser = recogniser.with_characters(recogniser.missing_characters(texts))
    clips = [speech(2.0), speech(1.0, 1), speech(1.0, 2)]
    scores = recogniser.text_log_probs(clips, texts)
    assert scores.shape == (3, 3)
    assert scores[1, 2] == -torch.inf
    sizes = torch.tensor([10.0, 4.0])
    expected = -(scores[[0, 1], [0, 1]] * sizes).sum() / sizes.sum()
    # The last text is too long for its clip, so it does not count.
    torch.testing.assert_close(recogniser.loss(clips, texts), expected)
    assert recogniser.text_log_probs(clips[:1], [""])[0, 0] == -torch.inf


def test_perturbed_clips_differ_slightly(make_folder: Callable[..., Path]) -> None:
    recogniser = load(make_folder("xls-r"), "xls-r", "d" * 64)
    samples = speech(1.0)
    first, second = (recogniser.perturb([samples], np.random.default_rng(seed))[0] for seed in (0, 1))
    assert len(first) != len(second)
    assert 0.9 < len(first) / len(samples) < 1.12
    again = recogniser.perturb(recogniser.prepare([samples]), np.random.default_rng(0))[0]
    np.testing.assert_array_equal(first, again)
    assert abs(np.sqrt(np.mean(first**2)) / np.sqrt(np.mean(samples**2)) - 1) < 0.25


def test_writable_texts(make_folder: Callable[..., Path]) -> None:
    recogniser = load(make_folder("xls-r"), "xls-r", "d" * 64)
    assert recogniser.writable("  It's Ten -- 'Tomorrow' at 9, señor ") == "it's ten tomorrow at seor"
    assert recogniser.missing_characters(["señor, 9?", "ñ"]) == "9ñ"
    assert recogniser.writable("Ω") == ""
    assert len(recogniser.network.alphabet) == len(LETTERS)
