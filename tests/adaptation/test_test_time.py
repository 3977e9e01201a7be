"""Test-time adaptation: episodic and continual mode, both objectives, and resets."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.adaptation.test_time import (
    RECENT,
    TestTime,
    TestTimeConfig,
    adapted_weights,
    entropy_confusion_loss,
)
from metavox.config import EncoderConfig, FeatureConfig, FrontEndConfig
from metavox.enrolment.enrol import enrol_words
from metavox.recognisers import registry
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.recognisers.delta import Delta
from metavox.recognisers.recogniser import Audio, DecodeOptions, Predictions, Recogniser
from metavox.recognisers.transcript import Segment, Transcript
from tests.recognisers.contract import KINDS, RATE, loss_of, speech, state
from tests.small_whisper import save_small_whisper

EPISODIC = TestTimeConfig("episodic", 4, 3e-3)
LABELS = replace(EPISODIC, objective="pseudo-labels", confidence=0.0)
# The small networks write something in each.
CLIPS = [speech(0.8, 0, (150, 250)), speech(0.9, 1, (900, 1100)), speech(1.0, 2, (2500, 3000))]


def mels(seed: int, level: float = -6.0) -> torch.Tensor:
    return torch.randn(60, 16, generator=torch.Generator().manual_seed(seed)) * 2 + level


def loss(recogniser: Recogniser, audio: Audio, text: str, config: TestTimeConfig) -> float:
    with torch.no_grad():
        predictions = recogniser.predictions(audio, text)
        return float(entropy_confusion_loss(predictions, config.temperature, config.entropy))


def changed(recogniser: Recogniser, before: dict[str, torch.Tensor]) -> set[str]:
    now = recogniser.network.state_dict()
    return {name for name, value in before.items() if not torch.equal(now[name], value)}


@pytest.fixture
def small(make_model: Callable[..., Network]) -> ConformerRecogniser:
    return ConformerRecogniser(make_model().requires_grad_(False), "small", "b" * 64)


@pytest.fixture(scope="module", params=["conformer", "ctc", "whisper"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    folder = tmp_path_factory.mktemp("base") / "model"
    folder.mkdir()
    KINDS[request.param].write(folder)
    return registry.load(folder, "small")


class Sure(ConformerRecogniser):
    """A conformer that always writes `text`, as sure of it as `confidence`."""

    text, confidence = "ab cd", 0.9

    def transcribe(self, audio: list[Audio], options: DecodeOptions = DecodeOptions()) -> list[Transcript]:
        return [Transcript((Segment(self.text, 0.0, 1.0, self.confidence),), 1.0) for _ in audio]


@pytest.fixture
def sure(make_model: Callable[..., Network]) -> Sure:
    return Sure(make_model().requires_grad_(False), "small", "b" * 64)


def test_the_loss_has_the_limits_of_entropy_and_confusion() -> None:
    everywhere = torch.ones(8, dtype=torch.bool)
    uniform = Predictions(torch.full((8, 4), 0.25).log(), everywhere)
    certain = Predictions(torch.eye(4).repeat(2, 1).clamp_min(1e-9).log(), everywhere)
    assert float(entropy_confusion_loss(uniform, 1.0, 1.0)) == pytest.approx(math.log(4), abs=1e-4)
    assert float(entropy_confusion_loss(uniform, 1.0, 0.0)) == pytest.approx(0.75, abs=1e-4)
    for entropy in (0.0, 1.0):
        assert float(entropy_confusion_loss(certain, 1.0, entropy)) == pytest.approx(0, abs=1e-4)
    half = torch.arange(8) < 4
    mixed = Predictions(torch.cat([uniform.log_probs[:4], certain.log_probs[:4]]), ~half)
    assert float(entropy_confusion_loss(mixed, 1.0, 1.0)) == pytest.approx(0, abs=1e-4)


def test_confusion_is_the_off_diagonal_part_of_the_class_correlation() -> None:
    log_probs = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    probabilities = log_probs.exp()
    entropies = -(probabilities * log_probs).sum(1)
    weights = 1 + (-entropies).exp()
    correlation = (probabilities * (weights / weights.sum() * 20)[:, None]).T @ probabilities
    correlation = correlation / correlation.sum(1, keepdim=True)
    expected = (correlation.sum() - correlation.trace()) / 6
    predictions = Predictions(log_probs, torch.ones(20, dtype=torch.bool))
    assert float(entropy_confusion_loss(predictions, 1.0, 0.0)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("config", [EPISODIC, LABELS], ids=["entropy", "pseudo-labels"])
def test_the_result_of_an_episode_does_not_depend_on_earlier_ones(
    base: Recogniser, config: TestTimeConfig
) -> None:
    before = state(base)
    test_time = TestTime(base, config)
    first = state(test_time.adapted(CLIPS[0]))
    other = state(test_time.adapted(CLIPS[1]))
    again = test_time.adapted(CLIPS[0])
    assert test_time.skipped == 0
    assert changed(again, first) == set()
    assert changed(again, other)
    moved = changed(again, before)
    assert moved
    assert moved <= set(adapted_weights(base))
    if "head" in base.spec.presets:
        assert not moved & set(base.adapter_targets("head"))
    assert changed(base, before) == set()
    assert not any(weight.requires_grad for weight in again.network.parameters())


def test_the_entropy_falls(base: Recogniser) -> None:
    config = replace(EPISODIC, temperature=1.0, entropy=1.0)
    test_time = TestTime(base, config)
    for clip in CLIPS:
        text = base.writable(base.transcribe([clip])[0].text)
        assert loss(test_time.adapted(clip), clip, text, config) < loss(base, clip, text, config)


def test_a_pseudo_label_becomes_likelier(base: Recogniser) -> None:
    for clip in CLIPS:
        text = base.writable(base.transcribe([clip])[0].text)
        adapted = TestTime(base, replace(LABELS, steps=8)).adapted(clip)
        assert loss_of(adapted, [clip], [text]) < loss_of(base, [clip], [text])


@pytest.mark.parametrize(("confidence", "learned"), [(0.59, False), (0.6, True), (0.9, True)])
def test_only_confident_pseudo_labels_are_learned(sure: Sure, confidence: float, learned: bool) -> None:
    sure.confidence = confidence
    test_time = TestTime(sure, replace(LABELS, confidence=0.6))
    assert bool(changed(test_time.adapted(mels(1)), state(sure))) == learned
    assert test_time.skipped == (0 if learned else 1)


@pytest.mark.parametrize("objective", ["entropy", "pseudo-labels"])
def test_a_recording_without_a_transcript_is_not_learned_from(sure: Sure, objective: str) -> None:
    sure.text = ""
    test_time = TestTime(sure, replace(LABELS, objective=objective))
    assert changed(test_time.adapted(mels(1)), state(sure)) == set()
    assert (test_time.skipped, test_time.resets) == (1, 0)


def test_the_whole_front_end_adapts() -> None:
    torch.manual_seed(0)
    features = FeatureConfig(mels=16, extras=("prosody", "formants"))
    streams = FrontEndConfig(("mel", "pcen", "envelope", "prosody", "formants"), "wiener", "running", True)
    encoder = EncoderConfig(channels=4, dim=16, layers=1, heads=2, kernel=5, embedding=24)
    network = Network(ModelConfig(features, encoder, " abc", streams)).eval().requires_grad_(False)
    extras = torch.rand(60, 9, generator=torch.Generator().manual_seed(2))
    recogniser = ConformerRecogniser(network, "small", "b" * 64)
    adapted = TestTime(recogniser, EPISODIC).adapted(torch.cat([mels(1), extras], dim=1))
    before = dict(network.encoder.frontend.named_parameters())
    unchanged = [
        name
        for name, value in adapted.network.encoder.frontend.named_parameters()
        if torch.equal(value, before[name])
    ]
    assert not unchanged


def test_steps_that_raise_the_loss_are_not_kept(small: ConformerRecogniser) -> None:
    losses = []
    for steps in range(9):
        config = replace(EPISODIC, steps=steps, learning_rate=10.0)  # overshoots
        losses.append(loss(TestTime(small, config).adapted(mels(1)), mels(1), "", config))
    assert losses[-1] < losses[0]
    assert losses == sorted(losses, reverse=True)


def test_continual_mode_keeps_the_weights_until_they_get_worse(small: ConformerRecogniser) -> None:
    before = state(small)
    test_time = TestTime(small, TestTimeConfig("continual", 2, 0.01, jump=0.5))
    for seed in range(RECENT):
        kept = state(test_time.adapted(mels(seed)))
    assert test_time.resets == 0
    assert any(not torch.equal(kept[name], value) for name, value in before.items())
    student = test_time.adapted(mels(9))
    assert test_time.resets == 1, "the loss is more than half of the recent mean"
    assert changed(student, before) == set()


def test_continual_pseudo_labels_are_reset_when_the_confidence_falls_or_nothing_is_written(
    sure: Sure,
) -> None:
    before = state(sure)
    test_time = TestTime(sure, replace(LABELS, mode="continual", jump=3.0))
    for seed in range(RECENT + 1):
        student = test_time.adapted(mels(seed))
    assert test_time.resets == 0
    carried = state(student)
    assert changed(sure, carried)
    student.confidence = 0.5
    assert changed(test_time.adapted(mels(9)), before) == set()
    assert test_time.resets == 1
    student.confidence = 0.9
    assert changed(test_time.adapted(mels(1)), before)
    student.text = ""
    assert changed(test_time.adapted(mels(2)), before) == set()
    assert test_time.resets == 2


def test_word_recognition_adapts_too(make_model: Callable[..., Network]) -> None:
    model = make_model()
    base = ConformerRecogniser(model.requires_grad_(False), "small", "b" * 64)
    enrolled = enrol_words(model, "base", [mels(1), mels(2)], ["ab", "cd"]).vocabulary
    assert enrolled is not None
    before = state(base)
    adapted = TestTime(base, replace(EPISODIC, steps=5, learning_rate=0.01)).adapted_to_word(
        mels(3), enrolled
    )

    def entropy(recogniser: ConformerRecogniser) -> float:
        with torch.no_grad():
            log_probs = recogniser.word_log_probs(enrolled, [mels(3)])
        return float(-(log_probs.exp() * log_probs).sum())

    assert entropy(adapted) < entropy(base)
    assert changed(base, before) == set()


def test_a_view_adapts_and_keeps_its_delta(small: ConformerRecogniser) -> None:
    random = torch.Generator().manual_seed(0)
    delta = Delta("b" * 64, {"encoder.project.bias": torch.randn(16, generator=random)})
    view = small.using([delta])
    adapted = TestTime(view, EPISODIC).adapted(mels(1))
    assert loss(adapted, mels(1), "", EPISODIC) < loss(view, mels(1), "", EPISODIC)
    torch.testing.assert_close(
        view.network.get_parameter("encoder.project.bias"),
        small.network.get_parameter("encoder.project.bias") + delta.weights["encoder.project.bias"],
    )


def test_samples_and_prepared_audio_give_the_same_result(base: Recogniser) -> None:
    (prepared,) = base.prepare([CLIPS[0]])
    of_samples = state(TestTime(base, EPISODIC).adapted(CLIPS[0]))
    assert changed(TestTime(base, EPISODIC).adapted(prepared), of_samples) == set()
    silence = np.zeros(RATE, np.float32)
    TestTime(base, EPISODIC).adapted(silence)


def test_a_detected_language_is_learned_in(tmp_path: Path) -> None:
    save_small_whisper(tmp_path, seed=2)
    base = registry.load(tmp_path, "small")
    detected = base.transcribe([CLIPS[0]])[0].language
    assert detected != base.spec.languages[0], "the default would do otherwise"
    of_detected = state(TestTime(base, EPISODIC).adapted(CLIPS[0]))
    assert changed(TestTime(base.for_language(detected), EPISODIC).adapted(CLIPS[0]), of_detected) == set()


def test_the_entropy_is_that_along_the_own_transcript(sure: Sure, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = set()
    predictions = Sure.predictions

    def recorded(self: Sure, audio: Audio, text: str) -> Predictions:
        followed.add(text)
        return predictions(self, audio, text)

    monkeypatch.setattr(Sure, "predictions", recorded)
    TestTime(sure, EPISODIC).adapted(mels(1))
    assert followed == {"ab cd"}
