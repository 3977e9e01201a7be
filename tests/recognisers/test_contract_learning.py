"""Contract tests of every kind of recogniser: losses, adapters, new characters and deltas; see `contract`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.adaptation.adapter import ROWS, Adapter, AdapterConfig
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.errors import UserError
from metavox.recognisers.delta import Delta, load_delta, save_delta
from metavox.recognisers.recogniser import PRESETS, Preset, Recogniser, Transcript
from tests.recognisers.contract import (
    CLIPS,
    RATE,
    TEXTS,
    Kind,
    learned_delta,
    loss_of,
    random_delta,
    speech,
    with_missing_characters,
)

# Learning


def test_likelihoods_agree_with_the_loss(base: Recogniser, kind: Kind) -> None:
    view = with_missing_characters(base)
    scores = view.text_log_probs(CLIPS, TEXTS[:2])
    assert scores.shape == (3, 2)
    assert not scores.requires_grad
    assert (scores <= 0).all()
    assert torch.isfinite(scores).all()
    total, count = 0.0, 0
    for i, clip in enumerate(CLIPS[:2]):
        for j, text in enumerate(TEXTS[:2]):
            characters, tokens = len(view.writable(text)), kind.tokens(view, clip, text)
            expected = float(-scores[i, j]) * characters / tokens
            assert loss_of(view, [clip], [text]) == pytest.approx(expected, rel=2e-3)
            if i == j:
                total, count = total + float(-scores[i, j]) * characters, count + tokens
    assert loss_of(view, CLIPS[:2], TEXTS[:2]) == pytest.approx(total / count, rel=2e-3), (
        "the loss of a batch is a mean over its tokens"
    )
    assert view.text_log_probs([], TEXTS).shape == (0, 3)


def test_predictions_are_differentiable_probabilities(base: Recogniser) -> None:
    adapter = _with_distinct_rows(Adapter(base, AdapterConfig("norms"), base.missing_characters(TEXTS)))
    for clip, text in zip(CLIPS, TEXTS, strict=True):
        predictions = adapter.recogniser.predictions(clip, text)
        positions = len(predictions.log_probs)
        torch.testing.assert_close(predictions.log_probs.exp().sum(1), torch.ones(positions))
        assert predictions.written.shape == (positions,)
        assert predictions.written.dtype == torch.bool
        (prepared,) = base.prepare([clip])
        again = adapter.recogniser.predictions(prepared, text)
        torch.testing.assert_close(again.log_probs, predictions.log_probs)
        assert torch.equal(again.written, predictions.written)
        (-(predictions.log_probs.exp() * predictions.log_probs).sum()).backward()
    gradients = [weight.grad for weight in adapter.parameters.values()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients if gradient is not None) >= 0.9 * len(gradients)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_adapter_weight_has_a_gradient_and_training_lowers_the_loss(
    base: Recogniser, kind: Kind, preset: Preset
) -> None:
    if preset not in base.spec.presets:
        pytest.skip("no preset of this kind")
    adapter = _with_distinct_rows(
        Adapter(base, AdapterConfig(preset, rank=2), base.missing_characters(TEXTS))
    )
    loss = adapter.recogniser.loss(CLIPS, TEXTS)
    assert loss.ndim == 0
    loss.backward()
    gradients = {name: weight.grad for name, weight in adapter.parameters.items()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())
    if preset.startswith("lora"):  # `a` has no gradient while `b` is zero
        gradients = {name: gradient for name, gradient in gradients.items() if not name.endswith(".a")}
    zero_gradients = [name for name, gradient in gradients.items() if not gradient.any()]  # type: ignore[union-attr]
    assert len(zero_gradients) <= 0.1 * len(gradients), zero_gradients
    start = with_missing_characters(base)
    delta = learned_delta(base, kind, preset, kind.few_steps)
    assert loss_of(base.using([delta]), CLIPS, TEXTS) < (1.0 if preset == "frontend" else 0.97) * loss_of(
        start, CLIPS, TEXTS
    )
    assert set(delta.shapes()) == set(base.adapter_targets(preset))


def test_learned_texts_score_higher(base: Recogniser, kind: Kind, tmp_path: Path) -> None:
    delta = learned_delta(base, kind, "all", kind.many_steps)
    adapted = base.using([delta])
    before, after = (
        with_missing_characters(base).text_log_probs(CLIPS, TEXTS),
        adapted.text_log_probs(CLIPS, TEXTS),
    )
    assert (after.diagonal() > before.diagonal()).all()
    fit = (after - after.mean(dim=0)).diagonal()
    assert float(fit.mean()) > 0.005, "texts fit their own clips better than other clips"
    save_delta(delta, tmp_path / "delta")
    reloaded = base.using([load_delta(tmp_path / "delta")])
    assert [t.text for t in reloaded.transcribe(CLIPS)] == [t.text for t in adapted.transcribe(CLIPS)]
    torch.testing.assert_close(reloaded.text_log_probs(CLIPS, TEXTS), after, atol=0.05, rtol=0.05)


def _with_distinct_rows(adapter: Adapter) -> Adapter:
    """The adapter, its new output rows moved apart in place, because identical rows have no gradient."""
    with torch.no_grad():
        for name, weight in adapter.parameters.items():
            if name.startswith(ROWS):
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    return adapter


@pytest.mark.parametrize("text", ["a nice day " * 300, "", "?!"])
def test_texts_that_cannot_be_learned_are_a_one_line_error_or_have_a_finite_loss(
    base: Recogniser, text: str
) -> None:
    view = with_missing_characters(base)
    try:
        loss = loss_of(view, CLIPS[:2], [TEXTS[0], text])
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert np.isfinite(loss)


def test_perturbed_clips_differ_and_depend_on_the_seed(base: Recogniser) -> None:
    audio = [*base.prepare(CLIPS), *base.prepare([speech(0.02, 3), np.zeros(RATE, np.float32)])]
    first, again, other = (base.perturb(audio, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert len(first) == len(audio)
    for perturbed, same, different, clip in list(zip(first, again, other, audio, strict=True)):
        np.testing.assert_array_equal(np.asarray(perturbed), np.asarray(same))
        if clip is audio[-1] or clip is audio[-2]:
            continue
        assert np.shape(perturbed) != np.shape(different) or not np.array_equal(
            np.asarray(perturbed), np.asarray(different)
        )
        assert base.duration_s(perturbed) == pytest.approx(base.duration_s(clip), rel=0.15)
    assert np.isfinite(loss_of(with_missing_characters(base), first[:3], TEXTS))
    assert base.perturb([], np.random.default_rng(0)) == []


# Characters


def test_writable_texts(base: Recogniser) -> None:
    view = with_missing_characters(base)
    for text in TEXTS:
        assert view.writable(text).lower() == text
        assert view.writable(view.writable(text)) == view.writable(text)
    assert view.writable("  a \n sun ") == view.writable("a sun")
    assert base.writable("") == base.writable("  ") == ""
    assert view.missing_characters(TEXTS) == ""
    assert base.missing_characters([]) == ""


def test_missing_characters_are_added_or_there_are_none(base: Recogniser, kind: Kind) -> None:
    texts = ["жук", "яма да"]
    missing = base.missing_characters(texts)
    before = [t.text for t in base.transcribe(CLIPS)]
    if not kind.extensible:
        assert missing == ""
        assert base.writable(texts[0]) == texts[0]
        with pytest.raises(UserError, match="new characters"):
            base.with_characters("ж")
        return
    assert set("жук") <= set(missing)
    assert missing == "".join(sorted(missing))
    extended = base.with_characters(missing)
    assert extended.missing_characters(texts) == ""
    assert extended.writable(texts[1]) == texts[1]
    assert base.missing_characters(texts) == missing
    assert [t.text for t in base.transcribe(CLIPS)] == before
    recordings = Recordings(base.prepare(CLIPS[:2]), texts)
    config = FineTuneConfig(preset=base.spec.presets[0], learning_rate=2e-2, steps=8, batch=2)
    delta = fine_tune(base, recordings, config)
    assert delta.output_rows is not None
    assert delta.output_rows.alphabet == missing
    adapted = base.using([delta])
    assert adapted.missing_characters(texts) == ""
    assert loss_of(adapted, CLIPS[:2], texts) < 0.9 * loss_of(extended, CLIPS[:2], texts)
    louder = base.prepare([1.2 * CLIPS[1], 1.2 * CLIPS[0]])
    # Four recordings, so that each fold has both texts.
    augmented = Recordings([*recordings.audio, *louder], [*texts, *texts[::-1]])
    validated = fine_tune(base, augmented, replace(config, folds=2))
    assert validated.about["steps"] != 0, "the base cannot write the texts, so it must not win"


# Deltas


@pytest.fixture(scope="module")
def base_transcripts(loaded: Recogniser) -> list[Transcript]:
    return loaded.transcribe(CLIPS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_view_shares_the_base_and_does_not_change_it(
    base: Recogniser, base_transcripts: list[Transcript], preset: Preset, tmp_path: Path
) -> None:
    if preset not in base.spec.presets:
        pytest.skip("no preset of this kind")
    original = random_delta(base, preset, by=0.5 if preset == "frontend" else 0.1)
    save_delta(original, tmp_path / "delta")
    delta = load_delta(tmp_path / "delta")
    view = base.using([delta])
    torch.testing.assert_close(
        view.text_log_probs(CLIPS, TEXTS),
        base.using([original]).text_log_probs(CLIPS, TEXTS),
        atol=0.05,
        rtol=0.05,
    )
    assert view.spec == base.spec
    assert not torch.allclose(
        view.text_log_probs(CLIPS, TEXTS),
        with_missing_characters(base).text_log_probs(CLIPS, TEXTS),
        atol=1e-5,
        rtol=1e-5,
    )
    base_pointers = {
        name: value.data_ptr() for name, value in base.network.state_dict(keep_vars=True).items()
    }
    view_pointers = {
        name: value.data_ptr() for name, value in view.network.state_dict(keep_vars=True).items()
    }
    assert all(
        view_pointers[name] == pointer for name, pointer in base_pointers.items() if name not in delta.weights
    )
    assert not any(p.requires_grad for p in view.network.parameters())
    assert base.transcribe(CLIPS) == base_transcripts
    assert base.using([]) is base
    assert base.using([delta]).transcribe(CLIPS) == view.transcribe(CLIPS)


def test_deltas_add_up(base: Recogniser) -> None:
    first, second = (
        random_delta(base, seed=1, by=0.05),
        replace(random_delta(base, seed=2, by=0.05), output_rows=None),
    )
    expected = base.using([first, second]).text_log_probs(CLIPS, TEXTS)
    torch.testing.assert_close(
        base.using([first]).using([second]).text_log_probs(CLIPS, TEXTS), expected, atol=2e-3, rtol=2e-3
    )
    torch.testing.assert_close(
        base.using([second, first]).text_log_probs(CLIPS, TEXTS), expected, atol=2e-3, rtol=2e-3
    )
    assert not torch.allclose(
        base.using([first]).text_log_probs(CLIPS, TEXTS), expected, atol=1e-3, rtol=1e-3
    )


def test_a_delta_of_another_base_is_a_one_line_error(base: Recogniser) -> None:
    delta = random_delta(base)
    for other in (
        replace(delta, base="o" * 64),
        Delta("o" * 64),
        Delta(base.spec.digest, {"no.such": torch.ones(1)}),
    ):
        with pytest.raises(UserError, match=r"made for base|does not have") as caught:
            base.using([other])
        assert "\n" not in str(caught.value)
