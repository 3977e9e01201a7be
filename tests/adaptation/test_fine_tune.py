"""Fine-tuning: a delta that helps and an unchanged base, divergence, new characters and rehearsal."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.adaptation import fine_tune as module
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.recogniser import Audio, Recipe
from tests.adaptation.tuning import BASE, SHORT, Small, loss, same_weights, squared_norm
from tests.small_whisper import save_small_whisper


@pytest.mark.parametrize("preset", ["norms", "lora", "head", "all"])
def test_the_delta_lowers_the_loss_and_the_base_is_unchanged(
    base: Small, utterances: Recordings, preset: str
) -> None:
    before = {name: value.clone() for name, value in base.network.state_dict().items()}
    steps_reported: list[tuple[str, int, int, float]] = []
    config = replace(SHORT, preset=preset, seed=1)  # type: ignore[arg-type]
    delta = fine_tune(base, utterances, config, record=lambda *step: steps_reported.append(step))
    assert all(torch.equal(value, before[name]) for name, value in base.network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in base.network.parameters())
    assert delta.base == BASE
    assert [step[:3] for step in steps_reported] == [("adapting", i, 12) for i in range(1, 13)]
    assert all(np.isfinite(step[3]) for step in steps_reported)
    assert loss(base.using([delta]), utterances) < 0.9 * loss(base, utterances)
    assert delta.about == {
        "kind": "utterances",
        "recordings": 12,
        "preset": preset,
        "learning_rate": 0.02,
        "steps": 12,
    }
    assert same_weights(delta, fine_tune(base, utterances, config))
    assert not same_weights(delta, fine_tune(base, utterances, replace(config, seed=2)))


@pytest.mark.parametrize("preset", ["norms", "lora"])
def test_l2_sp_keeps_the_weights_near_the_base(base: Small, utterances: Recordings, preset: str) -> None:
    free, penalised = (
        fine_tune(base, utterances, replace(SHORT, preset=preset, l2_sp_weight=weight))  # type: ignore[arg-type]
        for weight in (0.0, 100.0)
    )
    assert squared_norm(penalised) < 0.7 * squared_norm(free)


def test_a_learning_rate_of_zero_leaves_a_weight_unchanged(base: Small, utterances: Recordings) -> None:
    rates = {"ctc": 0.0, "ctc.bias": 0.02}
    delta = fine_tune(base, utterances, replace(SHORT, preset="head", rates=rates))
    assert not delta.weights["ctc.weight"].any()
    assert delta.weights["ctc.bias"].any()


# Divergence


class Exploding(Small):
    """Its loss explodes after `good` steps."""

    good, calls = 6, 0

    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        Exploding.calls += 1
        value = super().loss(audio, texts)
        return value * (1.0 if Exploding.calls <= self.good else 1e3)


def test_divergence_stops_training_is_reported_and_keeps_the_best_weights(
    base: Small, utterances: Recordings
) -> None:
    steps_reported: list[float] = []
    config = replace(SHORT, preset="all", learning_rate=30.0, steps=16)
    delta = fine_tune(base, utterances, config, record=lambda *step: steps_reported.append(step[3]))
    assert len(steps_reported) < 16
    assert "choose a lower learning rate than 30" in str(delta.about["diverged"])
    assert delta.about["steps"] == 0
    assert loss(base.using([delta]), utterances) == pytest.approx(loss(base, utterances)), "the base was best"


def test_the_snapshot_before_divergence_is_kept(
    make_model: Callable[..., Network], utterances: Recordings
) -> None:
    base = Exploding(make_model().requires_grad_(False), "small", BASE)
    Exploding.calls = 0
    delta = fine_tune(base, utterances, replace(SHORT, steps=16))
    assert delta.about["steps"] == 4, (
        "the last snapshot is from step 4, because the loss explodes after step 6"
    )
    Exploding.calls = -1000
    recipe = Recipe("norms", 0.02, 16, 16)
    fine_tuning = module._FineTuning(base, utterances, SHORT, None, lambda *_: None)
    adapter = fine_tuning.adapter(recipe)
    for step, _ in fine_tuning.train(adapter, fine_tuning.recordings, recipe, ""):
        if step == 3:
            break
    assert same_weights(delta, adapter.delta({}))


def test_divergence_in_every_fold_is_reported_too(base: Small, utterances: Recordings) -> None:
    delta = fine_tune(base, utterances, replace(SHORT, preset="all", learning_rate=30.0, steps=16, folds=2))
    assert delta.about["steps"] == 0
    assert not delta.changes_recogniser
    assert "lower learning rate" in str(delta.about["diverged"])
    base.candidates = (Recipe("all", 30.0, 16, 16), Recipe("norms", 0.02, 12, 16))
    delta = fine_tune(base, utterances, FineTuneConfig(folds=2))
    assert delta.about["preset"] == "norms"
    assert "diverged" not in delta.about


# Environment


def test_the_environment_applies_to_samples_and_not_to_log_mels(
    base: Small, utterances: Recordings, tmp_path: Path
) -> None:
    lengths: list[int] = []

    def environment(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        lengths.append(len(samples))
        return -samples + float(random.normal())

    whisper = registry.load(save_small_whisper(tmp_path / "small-whisper"), "small-whisper")
    clips = [np.random.default_rng(i).normal(size=8000 + i).astype(np.float32) for i in range(3)]
    recordings = Recordings(whisper.prepare(clips), ["a b", "c d", "e f"])
    config = FineTuneConfig(steps=2, batch=3)
    plain, changed = (
        fine_tune(whisper, recordings, replace(config, environment=choice)) for choice in (None, environment)
    )
    assert sorted(lengths) == sorted([8000, 8001, 8002] * 2)
    assert not same_weights(plain, changed)
    lengths.clear()
    fine_tune(base, utterances, replace(SHORT, environment=environment, steps=1))
    assert not lengths


# Texts


def test_characters_that_the_base_lacks_are_learned(base: Small, utterances: Recordings) -> None:
    texts = [text.translate(str.maketrans("abcdefgh", "абвгдежз")) for text in utterances.texts]
    cyrillic = Recordings(utterances.audio, texts)
    delta = fine_tune(base, cyrillic, replace(SHORT, steps=60, preset="frontend"))
    assert delta.output_rows is not None
    assert delta.output_rows.alphabet == "абвгдежз"
    assert base.missing_characters(texts) == "абвгдежз"
    adapted = base.using([delta])
    assert adapted.missing_characters(texts) == ""
    assert loss(adapted, cyrillic) < 0.8 * loss(base.with_characters("абвгдежз"), cyrillic)


def test_cross_validation_works_with_new_characters(base: Small, utterances: Recordings) -> None:
    """The base cannot write these characters, so its loss on the texts without them must not win."""
    with torch.no_grad():
        base.network.ctc.bias[0] = 100.0  # the blank is so likely that an empty text has no loss
    texts = [text.translate(str.maketrans("abcdefgh", "абвгдежз")) for text in utterances.texts]
    delta = fine_tune(
        base,
        Recordings(utterances.audio, texts),
        replace(SHORT, preset="head", learning_rate=0.5, steps=40, folds=2),
    )
    assert delta.about["steps"] != 0
    assert delta.output_rows is not None


@pytest.mark.parametrize("texts", [["", ""], ["?!", "..."], ["", "—"]])
def test_texts_without_writable_characters_are_refused_in_one_line(base: Small, texts: list[str]) -> None:
    with pytest.raises(UserError, match="none of 2 texts can be written by small") as caught:
        fine_tune(base, Recordings([torch.zeros(9, 16)] * 2, texts), SHORT)
    assert "\n" not in str(caught.value)


def test_recordings_without_text_or_samples_are_left_out(base: Small, utterances: Recordings) -> None:
    extended = Recordings(
        [*utterances.audio, torch.zeros(0, 16), utterances.audio[0]], [*utterances.texts, "ab", "!"]
    )
    assert same_weights(fine_tune(base, extended, SHORT), fine_tune(base, utterances, SHORT))


# Rehearsal


def test_a_share_of_each_batch_is_general_speech(
    base: Small, utterances: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, int]] = []
    own_ids = {id(recording) for recording in utterances.audio[:6]}
    original = Small.perturb

    def perturb(self: Small, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        batches.append((sum(id(recording) in own_ids for recording in audio), len(audio)))
        return original(self, audio, random)

    monkeypatch.setattr(Small, "perturb", perturb)
    for share, batch, expected in ((0.25, 8, (6, 8)), (0.5, 4, (2, 4)), (0.0, 4, (4, 4))):
        batches.clear()
        config = replace(SHORT, steps=3, batch=batch, rehearsal_share=share)
        fine_tune(base, utterances.subset(range(6)), config, utterances.subset(range(6, 12)))
        assert batches == [expected] * 3
    batches.clear()
    fine_tune(base, utterances.subset(range(6)), replace(SHORT, steps=1, batch=8))
    assert batches == [(6, 6)], "no recording is repeated in a batch"


def test_rehearsal_reduces_forgetting(base: Small, utterances: Recordings) -> None:
    other = utterances.subset(range(6, 12))
    trained = base.using([fine_tune(base, other, replace(SHORT, preset="all", steps=40))])
    mislabelled = Recordings(utterances.audio[:6], ["gg hh"] * 6)
    trained.spec = replace(trained.spec, digest="t" * 64)
    start = Small(trained.network, "trained", "t" * 64)
    config = replace(SHORT, preset="all", steps=30, batch=8, rehearsal_share=0.5)
    without_rehearsal, with_rehearsal = (
        start.using([fine_tune(start, mislabelled, config, general)]) for general in (None, other)
    )
    assert loss(with_rehearsal, other) < 0.7 * loss(without_rehearsal, other)
    assert loss(with_rehearsal, mislabelled) < loss(start, mislabelled)
