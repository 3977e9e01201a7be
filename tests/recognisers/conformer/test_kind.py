"""The conformer as a recogniser: word times, prepared and encoded audio, new characters."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from metavox.audio.features import LogMel, extract
from metavox.errors import UserError
from metavox.recognisers.conformer.kind import BATCH, PRESETS, ConformerRecogniser, Frames
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import Vocabulary

RATE = 16000
BASE = "b" * 64


@pytest.fixture
def recogniser(make_model: Callable[..., Network]) -> ConformerRecogniser:
    return ConformerRecogniser(make_model().requires_grad_(False), "small", BASE)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def test_word_times_increase_and_stay_inside_their_segment(recogniser: ConformerRecogniser) -> None:
    recogniser.network.ctc.weight.mul_(8)
    for seconds in (1.0, 0.333, 25.0):
        (transcript,) = recogniser.transcribe([noise(seconds)])
        assert transcript.duration_s == pytest.approx(seconds, abs=1e-3)
        last = 0.0
        for segment in transcript.segments:
            assert segment.start_s == pytest.approx(last)
            last = segment.end_s
            times = [t for w in segment.words for t in (w.start_s, w.end_s)]
            assert times == sorted(times)
            assert all(segment.start_s <= t <= segment.end_s for t in times)
            assert segment.text == " ".join(w.text for w in segment.words)
            assert segment.confidence == pytest.approx(np.mean([w.confidence for w in segment.words]))
        assert last == pytest.approx(seconds, abs=1e-3)
        assert sum(len(s.words) for s in transcript.segments) > 0


def test_the_last_word_does_not_end_after_the_recording(recogniser: ConformerRecogniser) -> None:
    network = recogniser.network
    network.ctc.weight.zero_()
    network.ctc.bias.zero_()
    network.ctc.bias[5] = 9.0
    (segment,) = recogniser.transcribe([noise(0.03)])[0].segments
    assert [w.text for w in segment.words] == [network.config.alphabet[4]]
    assert segment.words[0].end_s == segment.end_s == pytest.approx(0.03)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(RATE), np.ones(1)])
def test_empty_and_silent_recordings_have_one_segment(
    recogniser: ConformerRecogniser, samples: np.ndarray
) -> None:
    (transcript,) = recogniser.transcribe([samples.astype(np.float32)])
    assert len(transcript.segments) == 1
    assert isinstance(transcript.text, str)


def test_prepared_audio_is_log_mels_and_is_not_recomputed(recogniser: ConformerRecogniser) -> None:
    clips = [noise(0.5), noise(0.71, 1)]
    mels = recogniser.prepare(clips)
    transform = LogMel(recogniser.network.config.features)
    for clip, log_mels in zip(clips, mels, strict=True):
        assert torch.equal(log_mels, extract(clip, transform))
        assert not log_mels.is_inference()
        assert recogniser.duration_s(log_mels) == pytest.approx(recogniser.duration_s(clip), abs=0.011)
    again = recogniser.prepare([*mels, clips[0]])
    assert again[0] is mels[0]
    assert torch.equal(again[2], mels[0])


def test_a_clip_is_encoded_once(recogniser: ConformerRecogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    encode = recogniser.network.encoder.both

    def counting(mels: torch.Tensor, lengths: torch.Tensor) -> object:
        calls.append(len(mels))
        return encode(mels, lengths)

    monkeypatch.setattr(recogniser.network.encoder, "both", counting)
    clips = [noise(0.4, seed) for seed in range(BATCH + 3)]
    encoded = recogniser.encode(clips)
    assert calls == [BATCH, 3]
    words = Vocabulary(BASE, ("a", "b"), torch.eye(24)[:2], ctc_weight=0.5)
    results = recogniser.transcribe(encoded), recogniser.text_log_probs(encoded, ["ab", "b"])
    scores = recogniser.embed(encoded), recogniser.score_words(words, encoded)
    assert recogniser.encode(encoded) == encoded
    assert sum(calls) == len(clips)
    assert [t.text for t in results[0]] == [t.text for t in recogniser.transcribe(clips)]
    torch.testing.assert_close(results[1], recogniser.text_log_probs(clips, ["ab", "b"]))
    torch.testing.assert_close(scores[0], recogniser.embed(clips))
    torch.testing.assert_close(scores[1], recogniser.score_words(words, clips))
    mixed = recogniser.text_log_probs([clips[0], encoded[1], *recogniser.prepare([clips[2]])], ["ab"])
    torch.testing.assert_close(mixed, results[1][:3, :1])


def test_encoded_audio_is_rejected_for_learning(recogniser: ConformerRecogniser) -> None:
    encoded = recogniser.encode([noise(0.4)])
    assert isinstance(encoded[0], Frames)
    for use in (lambda: recogniser.loss(encoded, ["a"]), lambda: recogniser.prepare(encoded)):
        with pytest.raises(TypeError, match="cannot learn from Frames"):
            use()


def test_embeddings_are_unit_vectors_and_may_be_empty(recogniser: ConformerRecogniser) -> None:
    torch.testing.assert_close(recogniser.embed([noise(0.3), noise(0.5)]).norm(dim=1), torch.ones(2))
    assert recogniser.embed([]).shape == (0, 24)
    assert recogniser.text_log_probs([], ["a"]).shape == (0, 1)
    assert recogniser.score_words(Vocabulary(BASE, ("a",), torch.eye(24)[:1]), []).shape == (0, 1)
    assert recogniser.transcribe([]) == recogniser.encode([]) == recogniser.prepare([]) == []


def test_texts_are_written_in_the_alphabet(recogniser: ConformerRecogniser) -> None:
    assert recogniser.writable("  It's -- Ten, señor! ") == "it's ten seor"
    assert recogniser.writable("да?") == ""
    assert recogniser.missing_characters(["señor", "да", "it's"]) == "ñад"
    assert recogniser.with_characters("ñад").writable("Да, señor") == "да señor"


def test_new_rows_start_as_the_mean_of_the_others_with_a_lower_bias(recogniser: ConformerRecogniser) -> None:
    extended = recogniser.with_characters("жя")
    rows = extended.network.added_rows()
    assert rows is not None
    torch.testing.assert_close(rows.weight, recogniser.network.ctc.weight[1:].mean(0).expand(2, -1))
    torch.testing.assert_close(rows.bias, (recogniser.network.ctc.bias[1:].mean() - 1).expand(2))
    assert recogniser.network.added_rows() is None
    extended_again = extended.with_characters("ю")
    assert extended_again.network.tokenizer.alphabet == recogniser.network.tokenizer.alphabet + "жяю"
    with pytest.raises(UserError, match="character"):
        extended.with_characters("я")


def test_presets_match_the_spec_and_others_are_rejected(recogniser: ConformerRecogniser) -> None:
    assert recogniser.spec.presets == PRESETS
    assert recogniser.recipes(5)[0].preset == recogniser.spec.presets[0]
    with pytest.raises(
        UserError,
        match="'lora-decoder': the conformer does not support it; expected one of norms, lora, head",
    ):
        recogniser.adapter_targets("lora-decoder")
