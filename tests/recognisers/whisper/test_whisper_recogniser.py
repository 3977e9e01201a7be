"""Whisper as a recogniser: transcription, likelihoods, training, windows, languages and deltas."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.delta import Delta, LoRA, save_delta
from metavox.recognisers.lora import set_lora, shared_view
from metavox.recognisers.recogniser import DecodeOptions
from metavox.recognisers.whisper.encoding import Window, batches, cuts
from metavox.recognisers.whisper.recogniser import WhisperRecogniser
from tests.recognisers.whisper.conftest import MakeFolder

MakeRecogniser = Callable[..., WhisperRecogniser]
TEXTS = ["one", "two and three", "four", "five six"]


def lora_delta(recogniser: WhisperRecogniser, base: str, size: float = 0.3) -> Delta:
    random = torch.Generator().manual_seed(1)
    factors = {}
    for name in recogniser.adapter_targets("lora"):
        rows, columns = recogniser.network.get_parameter(name).shape
        factors[name] = (
            torch.randn(2, columns, generator=random) * size,
            torch.randn(rows, 2, generator=random) * size,
        )
    return Delta(base, lora=LoRA(2, 2.0, factors))


def test_silence_and_inaudible_noise_give_no_segments(make_recogniser: MakeRecogniser) -> None:
    silence = np.zeros(16000, np.float32)
    for transcript in make_recogniser().transcribe([silence, silence[:0], silence + 1e-5]):
        assert transcript.segments == ()
        assert transcript.language == "en"


def test_encoded_recordings_give_the_same_results(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    encoded = recogniser.encode(clips)
    assert recogniser.transcribe(encoded) == recogniser.transcribe(clips)
    assert [recogniser.duration_s(e) for e in encoded] == [recogniser.duration_s(c) for c in clips]
    of_encoded, of_samples = (recogniser.text_log_probs(audio, TEXTS) for audio in (encoded, clips))
    torch.testing.assert_close(of_encoded, of_samples)


def test_predictions_along_a_text_give_its_loss(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    ids = recogniser.tokens.encode(" two and three")
    predictions = recogniser.predictions(clips[0], "two and three")
    assert predictions.written.tolist() == [True] * len(ids) + [False, False], "the text, a time, the end"
    any_time = predictions.log_probs.shape[1] - 1
    labels = torch.tensor([*ids, any_time, recogniser.tokens.end])
    mean = predictions.log_probs.gather(1, labels[:, None]).mean()
    torch.testing.assert_close(-mean, recogniser.loss([clips[0]], ["two and three"]), atol=1e-3, rtol=1e-3)


def test_batched_text_scores_equal_single_ones(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    batched = recogniser.text_log_probs(clips, TEXTS)
    assert batched.shape == (4, 4)
    assert (batched < 0).all()
    alone = torch.cat([recogniser.text_log_probs([clip], TEXTS) for clip in clips])
    torch.testing.assert_close(alone, batched, atol=2e-3, rtol=2e-2)
    by_text = torch.cat([recogniser.text_log_probs(clips, [text]) for text in TEXTS], dim=1)
    torch.testing.assert_close(by_text, batched, atol=2e-3, rtol=2e-2)


def test_training_lowers_the_loss_and_raises_text_scores(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser, clips, texts = make_recogniser(), clips[:2], TEXTS[:2]
    view = shared_view(recogniser.network)
    parameters = []
    for name in recogniser.adapter_targets("lora"):
        rows, columns = view.get_parameter(name).shape
        layer = set_lora(view, name, torch.randn(2, columns) * 0.1, torch.zeros(rows, 2), 1.0)
        parameters += [layer.lora_a.requires_grad_(), layer.lora_b.requires_grad_()]
    adapted = recogniser.with_network(view)
    optimizer = torch.optim.Adam(parameters, 1e-2)
    before = float(adapted.loss(clips, texts))
    before_score = adapted.text_log_probs(clips, texts).diagonal().mean()
    for _ in range(8):
        optimizer.zero_grad()
        loss = adapted.loss(clips, texts)
        loss.backward()
        optimizer.step()
    assert float(adapted.loss(clips, texts)) < before - 0.5
    assert adapted.text_log_probs(clips, texts).diagonal().mean() > before_score
    assert float(recogniser.loss(clips, texts)) == pytest.approx(before, abs=1e-3)


def test_the_loss_is_the_mean_over_all_tokens(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    tokens = torch.tensor([len(t) + 1 + 2.0 for t in TEXTS])  # a space, letters, a time, the end
    losses = torch.tensor([float(recogniser.loss([c], [t])) for c, t in zip(clips, TEXTS, strict=True)])
    assert float(recogniser.loss(clips, TEXTS)) == pytest.approx(
        float((losses * tokens).sum() / tokens.sum()), rel=1e-2
    )


def test_texts_and_clips_that_are_too_long_are_one_line_errors(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    with pytest.raises(UserError, match="cut the recording and its text into sentences"):
        recogniser.loss(clips[:1], ["word " * 200])
    with pytest.raises(UserError, match=r"31\.0 s"):
        recogniser.text_log_probs([np.zeros(31 * 16000, np.float32)], ["word"])
    with pytest.raises(UserError, match=r"31\.0 s, but small learns from up to 30 s"):
        recogniser.loss([np.zeros(31 * 16000, np.float32)], ["word"])


def test_times_of_long_recordings_increase_across_windows(make_recogniser: MakeRecogniser) -> None:
    random = np.random.default_rng(0)
    recording = (random.normal(size=65 * 16000) * 0.1).astype(np.float32)
    recording[27 * 16000 : 28 * 16000] = 0
    (transcript,) = make_recogniser().transcribe([recording])
    times = [time for s in transcript.segments for time in (s.start_s, s.end_s)]
    assert transcript.duration_s == 65.0
    assert all(0 <= time <= 65.0 for time in times)
    assert [s.start_s for s in transcript.segments] == sorted(s.start_s for s in transcript.segments)
    assert max(times) > 30


def test_windows_end_late_and_in_pauses() -> None:
    random = np.random.default_rng(0)
    samples = random.normal(size=100 * 16000).astype(np.float32)
    for quiet_s in (17.0, 26.0, 45.0, 66.0):
        samples[round(quiet_s * 16000) : round((quiet_s + 0.5) * 16000)] *= 0.01
    ends = [end / 16000 for end in cuts(samples, 30.0)]
    assert ends[-1] == 100.0
    for end, quiet_s in zip(ends, (26.0, 45.0, 66.0), strict=False):
        assert quiet_s < end < quiet_s + 0.5
    assert all(b - a <= 30 for a, b in zip([0.0, *ends], ends, strict=False))
    assert cuts(samples[: 30 * 16000], 30.0) == [30 * 16000]


def test_unsupported_languages_and_tasks_are_rejected(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    english, multilingual_model = make_recogniser(), make_recogniser(multilingual=True, name="multilingual")
    assert english.spec.languages == ("en",)
    assert multilingual_model.spec.languages == ("en", "it", "de")
    with pytest.raises(UserError, match="'it': small knows English only"):
        english.transcribe(clips, DecodeOptions(language="it"))
    with pytest.raises(UserError, match="does not translate"):
        english.transcribe(clips, DecodeOptions(task="translate"))
    two = clips[:2]
    assert {t.language for t in multilingual_model.transcribe(two, DecodeOptions(language="it"))} == {"it"}
    assert {t.language for t in multilingual_model.transcribe(two)} <= {"en", "it", "de"}
    assert multilingual_model.transcribe(
        two, DecodeOptions(language="it", task="translate", prompt="Dr. Rossi")
    )


def test_a_delta_changes_only_the_view_and_must_match_the_base(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    before = recogniser.text_log_probs(clips, TEXTS)
    view = recogniser.using([lora_delta(recogniser, recogniser.spec.digest)])
    assert not torch.allclose(view.text_log_probs(clips, TEXTS), before, atol=1e-2)
    torch.testing.assert_close(recogniser.text_log_probs(clips, TEXTS), before)
    with pytest.raises(UserError, match="made for base"):
        recogniser.using([lora_delta(recogniser, "another")])


@pytest.mark.parametrize("preset", ["lora", "lora-encoder", "lora-decoder", "norms", "last", "all"])
def test_adapter_targets_are_weights_of_the_network(make_recogniser: MakeRecogniser, preset: str) -> None:
    recogniser = make_recogniser()
    names = recogniser.adapter_targets(preset)  # type: ignore[arg-type]
    assert names
    assert set(names) <= {name for name, _ in recogniser.network.named_parameters()}
    with pytest.raises(UserError, match="preset 'frontend': small does not support it"):
        recogniser.adapter_targets("frontend")


def test_a_short_context_adapter_is_part_of_the_base(
    make_folder: MakeFolder, clips: list[np.ndarray]
) -> None:
    folder: Path = make_folder()
    plain = registry.load(folder)
    assert isinstance(plain, WhisperRecogniser)
    adapter = lora_delta(plain, registry.own_digest(folder), 0.1)
    save_delta(adapter, folder / registry.SHORT_CONTEXT)
    short = registry.load(folder)
    assert isinstance(short, WhisperRecogniser)
    assert short.spec.digest != plain.spec.digest
    window = Window(clips[0], 0.0, 0)
    assert (plain.clip_encoder.context_s(window), short.clip_encoder.context_s(window)) == (30.0, 2.0)
    assert short.clip_encoder.context_s(window, "full") == 30.0
    view = plain.using([Delta(plain.spec.digest, lora=adapter.lora)])
    ours, theirs = (r.transcribe(clips[:2], DecodeOptions(context="full")) for r in (short, view))
    assert [t.text[:5] for t in ours] == [t.text[:5] for t in theirs]
    save_delta(lora_delta(plain, "another"), folder / registry.SHORT_CONTEXT)
    with pytest.raises(UserError, match="made for base"):
        registry.load(folder)


def test_clips_of_a_batch_have_the_same_context() -> None:
    contexts = [2.0, 30.0, 2.0, 5.0] * 20
    batched = list(batches(contexts, list(range(80))))
    assert sorted(i for rows in batched for i in rows) == list(range(80))
    assert all(len({contexts[i] for i in rows}) == 1 for rows in batched)
    assert max(len(rows) * contexts[rows[0]] for rows in batched) <= 120


def test_perturbed_recordings_have_about_the_same_length(
    make_recogniser: MakeRecogniser, clips: list[np.ndarray]
) -> None:
    recogniser = make_recogniser()
    for ours, clip in zip(recogniser.perturb(clips, np.random.default_rng(0)), clips, strict=True):
        assert 0.85 < len(ours) / len(clip) < 1.15  # type: ignore[arg-type]


def test_real_words_are_likelier_than_nonsense(tiny_en: WhisperRecogniser) -> None:
    noise = (np.random.default_rng(0).normal(size=32000) * 0.01).astype(np.float32)
    assert all(transcript.text == "" for transcript in tiny_en.transcribe([noise]))
    scores = tiny_en.text_log_probs([noise], ["Thank you.", "Zyx qwv kpt."])
    assert scores[0, 0] > scores[0, 1]
