"""One suite for every kind of recogniser: what the rest of the code may count on, see `contract`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metavox.adaptation.adapter import ROWS, Adapter, AdapterConfig
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.delta import Delta, load_delta, save_delta
from metavox.recognisers.recogniser import PRESETS, DecodeOptions, Preset, Recogniser, WordEmbedder
from metavox.recognisers.transcript import Transcript
from tests.recognisers.contract import CLIPS, KINDS, RATE, TEXTS, Kind, is_as, loss_of, speech, state

TIMED = DecodeOptions(word_times=True)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    folder.mkdir()
    kind.write(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Recogniser:
    return registry.load(folder, "small")


@pytest.fixture
def base(loaded: Recogniser) -> Iterator[Recogniser]:
    """No test of this file changes a bit of the base, nor the clips."""
    before, clips = state(loaded), [clip.copy() for clip in CLIPS]
    yield loaded
    assert is_as(loaded, before)
    assert not any(p.requires_grad or p.grad is not None for p in loaded.network.parameters())
    for clip, copy in zip(CLIPS, clips, strict=True):
        np.testing.assert_array_equal(clip, copy)


def able(base: Recogniser) -> Recogniser:
    """The base, with what characters it lacks to write the texts."""
    missing = base.missing_characters(TEXTS)
    return base.grown(missing) if missing else base


def nudged(base: Recogniser, preset: Preset | None = None, seed: int = 1, by: float = 0.1) -> Delta:
    """A delta that is heard."""
    adapter = Adapter(
        base, AdapterConfig(preset or base.spec.presets[0], rank=2), base.missing_characters(TEXTS)
    )
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in adapter.parameters.values():
            weight.add_(by * torch.randn(weight.shape, generator=random))
    return adapter.delta({"seed": seed})


def learned(base: Recogniser, kind: Kind, preset: Preset, steps: int = 15) -> Delta:
    config = FineTuneConfig(preset=preset, learning_rate=kind.learning_rate, steps=steps, batch=3, rank=4)
    return fine_tune(base, Recordings(base.prepare(CLIPS), TEXTS), config)


# What it says of itself


def test_what_it_is_stands_in_its_spec(base: Recogniser, kind: Kind, folder: Path) -> None:
    spec = base.spec
    assert (spec.kind, spec.name, spec.digest) == (kind.kind, "small", registry.digest(folder))
    assert registry.kind_of(folder) == kind.kind
    assert spec.sample_rate_hz > 0
    assert spec.longest_s > 0
    assert set(spec.presets) <= set(PRESETS)
    assert len(set(spec.presets)) == len(spec.presets) > 0
    assert all(len(code) == 2 for code in spec.languages)
    assert not any(module.training for module in base.network.modules())
    again = registry.load(folder, "small")
    assert again.spec == spec
    assert is_as(again, state(base))


@pytest.mark.parametrize("recordings", [1, 5, 20, 200, 5000])
def test_recipes_are_of_its_presets_the_usual_one_first(base: Recogniser, recordings: int) -> None:
    recipes = base.recipes(recordings)
    assert recipes[0].preset == base.spec.presets[0]
    assert {recipe.preset for recipe in recipes} <= set(base.spec.presets)
    assert len(set(recipes)) == len(recipes)
    assert all(r.steps > 0 and r.batch > 0 and r.learning_rate > 0 for r in recipes)


def test_adapters_name_weights_of_the_network(base: Recogniser) -> None:
    weights = dict(base.network.named_parameters())
    everything = set(base.adapter_targets("all")) if "all" in base.spec.presets else set(weights)
    for preset in base.spec.presets:
        targets = base.adapter_targets(preset)
        assert len(set(targets)) == len(targets) > 0
        assert set(targets) <= set(weights)
        assert set(targets) <= everything, "nothing is more than all"
        if preset.startswith("lora"):
            layers = [base.network.get_submodule(name.removesuffix(".weight")) for name in targets]
            assert all(isinstance(layer, nn.Linear) for layer in layers)
    sides = [set(base.adapter_targets(p)) for p in ("lora-encoder", "lora-decoder") if p in base.spec.presets]
    assert all(side <= set(base.adapter_targets("lora")) for side in sides)
    if len(sides) == 2:
        assert not sides[0] & sides[1]


def test_presets_that_it_does_not_take_are_refused_in_a_line(base: Recogniser) -> None:
    for preset in {*PRESETS, "nonsense", ""} - set(base.spec.presets):
        with pytest.raises(UserError, match="expected one of") as caught:
            base.adapter_targets(preset)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match="expected one of"):
            learned(base, KINDS["ctc"], preset)  # type: ignore[arg-type]


# ClipEncoder


def in_order(transcript: Transcript, seconds: float) -> None:
    assert transcript.duration_s == pytest.approx(seconds, abs=1e-6)
    end = transcript.duration_s + 1e-6
    starts = [segment.start_s for segment in transcript.segments]
    assert starts == sorted(starts)
    for segment in transcript.segments:
        assert 0 <= segment.start_s <= segment.end_s <= end
        assert 0 <= segment.confidence <= 1
        assert segment.text == segment.text.strip()
        times = [w.start_s for w in segment.words]
        assert times == sorted(times)
        for word in segment.words:
            assert segment.start_s - 1e-6 <= word.start_s <= word.end_s <= segment.end_s + 1e-6
            assert 0 <= word.confidence <= 1


@pytest.mark.parametrize(
    "options", [DecodeOptions(), TIMED, DecodeOptions(context="full")], ids=["plain", "timed", "full"]
)
def test_recordings_of_any_length_have_one_transcript_each(base: Recogniser, options: DecodeOptions) -> None:
    seconds = [0.0, 1 / RATE, 0.01, 0.1, 0.5, base.spec.longest_s, 1.5 * base.spec.longest_s]
    audio = [speech(length, seed)[: round(length * RATE)] for seed, length in enumerate(seconds)]
    audio[1] = np.ones(1, np.float32)
    view = base.using([nudged(base)])
    found = view.transcribe(audio, options)
    assert len(found) == len(audio)
    for one, samples in zip(found, audio, strict=True):
        in_order(one, len(samples) / RATE)
    assert found[-1].text, "a random network hears something in so much"
    if options.word_times:
        for segment in found[-1].segments:
            assert " ".join(w.text for w in segment.words).split() == segment.text.split()
    assert view.transcribe([], options) == []


def test_silence_gives_no_segment_or_empty_ones(base: Recogniser, kind: Kind) -> None:
    for seconds in (0.2, 1.0, 1.3 * base.spec.longest_s):
        (found,) = base.transcribe([np.zeros(round(seconds * RATE), np.float32)])
        in_order(found, round(seconds * RATE) / RATE)
        assert not kind.hushed or found.text == ""


def test_alone_and_in_a_batch_is_the_same(base: Recogniser) -> None:
    view = base.using([nudged(base)])
    audio = [
        *CLIPS,
        speech(0.3, 7),
        CLIPS[0][:9000],
        np.zeros(0, np.float32),
        speech(base.spec.longest_s + 1, 8),
    ]
    together = view.transcribe(audio)
    assert [t.text for t in together] == [view.transcribe([one])[0].text for one in audio]
    assert [t.text for t in view.transcribe(audio[::-1])] == [t.text for t in together][::-1]
    scores = view.text_log_probs(CLIPS, TEXTS)
    for row, clip in zip(scores, CLIPS, strict=True):
        torch.testing.assert_close(row, view.text_log_probs([clip], TEXTS)[0], atol=1e-3, rtol=1e-3)
    for column, text in zip(scores.T, TEXTS, strict=True):
        torch.testing.assert_close(column, view.text_log_probs(CLIPS, [text])[:, 0], atol=1e-3, rtol=1e-3)


def test_what_is_prepared_or_encoded_gives_the_same_as_samples(base: Recogniser) -> None:
    view = base.using([nudged(base)])
    prepared, encoded = view.prepare(CLIPS), view.encode(CLIPS)
    mixed = [prepared[0], encoded[1], CLIPS[2]]
    for audio in (prepared, encoded, mixed, view.encode(prepared), view.encode(encoded)):
        assert [t.text for t in view.transcribe(audio)] == [t.text for t in view.transcribe(CLIPS)]
        torch.testing.assert_close(
            view.text_log_probs(audio, TEXTS), view.text_log_probs(CLIPS, TEXTS), atol=1e-3, rtol=1e-3
        )
        for one, clip in zip(audio, CLIPS, strict=True):
            assert view.duration_s(one) == pytest.approx(len(clip) / RATE, abs=0.02)
    assert loss_of(view, prepared, TEXTS) == pytest.approx(loss_of(view, CLIPS, TEXTS), rel=1e-4)
    again = view.prepare(prepared)
    assert loss_of(view, again, TEXTS) == pytest.approx(loss_of(view, CLIPS, TEXTS), rel=1e-4)
    assert base.prepare([]) == base.encode([]) == []


# Learning


def test_likelihoods_are_by_clip_and_text_and_agree_with_the_loss(base: Recogniser, kind: Kind) -> None:
    view = able(base)
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
    assert loss_of(view, CLIPS[:2], TEXTS[:2]) == pytest.approx(total / count, rel=2e-3), "a mean over tokens"
    assert view.text_log_probs([], TEXTS).shape == (0, 3)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_loss_has_a_slope_for_every_weight_of_an_adapter_and_learning_lowers_it(
    base: Recogniser, kind: Kind, preset: Preset
) -> None:
    if preset not in base.spec.presets:
        pytest.skip("no preset of this kind")
    adapter = Adapter(base, AdapterConfig(preset, rank=2), base.missing_characters(TEXTS))
    with torch.no_grad():  # rows that are all alike let no slope through
        for name, weight in adapter.parameters.items():
            if name.startswith(ROWS):
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    loss = adapter.recogniser.loss(CLIPS, TEXTS)
    assert loss.ndim == 0
    loss.backward()
    slopes = {name: weight.grad for name, weight in adapter.parameters.items()}
    assert all(slope is not None and torch.isfinite(slope).all() for slope in slopes.values())
    if preset.startswith("lora"):  # nothing goes through `a` while `b` is nothing
        slopes = {name: slope for name, slope in slopes.items() if not name.endswith(".a")}
    still = [name for name, slope in slopes.items() if not slope.any()]  # type: ignore[union-attr]
    assert len(still) <= 0.1 * len(slopes), still
    start = able(base)
    delta = learned(base, kind, preset)
    assert loss_of(base.using([delta]), CLIPS, TEXTS) < (1.0 if preset == "frontend" else 0.97) * loss_of(
        start, CLIPS, TEXTS
    )
    assert set(delta.shapes()) == set(base.adapter_targets(preset))


def test_texts_that_fit_score_higher_once_they_were_learned(
    base: Recogniser, kind: Kind, tmp_path: Path
) -> None:
    delta = learned(base, kind, "all", steps=max(90, base.recipes(len(TEXTS))[0].steps))
    taught = base.using([delta])
    before, after = able(base).text_log_probs(CLIPS, TEXTS), taught.text_log_probs(CLIPS, TEXTS)
    assert (after.diagonal() > before.diagonal()).all()
    fit = (after - after.mean(dim=0)).diagonal()
    assert float(fit.mean()) > 0.005, "texts fit their own clips better than the others"
    save_delta(delta, tmp_path / "delta")
    kept = base.using([load_delta(tmp_path / "delta")])
    assert [t.text for t in kept.transcribe(CLIPS)] == [t.text for t in taught.transcribe(CLIPS)]
    torch.testing.assert_close(kept.text_log_probs(CLIPS, TEXTS), after, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("text", ["a nice day " * 300, "", "?!"])
def test_texts_that_cannot_be_learned_are_one_line_or_count_as_little(base: Recogniser, text: str) -> None:
    view = able(base)
    try:
        loss = loss_of(view, CLIPS[:2], [TEXTS[0], text])
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert np.isfinite(loss)


def test_perturbed_clips_are_as_many_other_and_drawn_by_a_seed(base: Recogniser) -> None:
    audio = [*base.prepare(CLIPS), *base.prepare([speech(0.02, 3), np.zeros(RATE, np.float32)])]
    first, again, other = (base.perturb(audio, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert len(first) == len(audio)
    for one, same, different, before in list(zip(first, again, other, audio, strict=True)):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(same))
        if before is audio[-1] or before is audio[-2]:
            continue
        assert np.shape(one) != np.shape(different) or not np.array_equal(
            np.asarray(one), np.asarray(different)
        )
        assert base.duration_s(one) == pytest.approx(base.duration_s(before), rel=0.15)
    assert np.isfinite(loss_of(able(base), first[:3], TEXTS))
    assert base.perturb([], np.random.default_rng(0)) == []


# Characters


def test_texts_are_learned_as_they_can_be_written(base: Recogniser) -> None:
    view = able(base)
    for text in TEXTS:
        assert view.writable(text).lower() == text
        assert view.writable(view.writable(text)) == view.writable(text)
    assert view.writable("  a \n sun ") == view.writable("a sun")
    assert base.writable("") == base.writable("  ") == ""
    assert view.missing_characters(TEXTS) == ""
    assert base.missing_characters([]) == ""


def test_characters_that_it_lacks_are_grown_or_it_lacks_none(base: Recogniser, kind: Kind) -> None:
    texts = ["жук", "яма да"]
    missing = base.missing_characters(texts)
    before = [t.text for t in base.transcribe(CLIPS)]
    if not kind.grows:
        assert missing == ""
        assert base.writable(texts[0]) == texts[0]
        with pytest.raises(UserError, match="new characters"):
            base.grown("ж")
        return
    assert set("жук") <= set(missing)
    assert missing == "".join(sorted(missing))
    grown = base.grown(missing)
    assert grown.missing_characters(texts) == ""
    assert grown.writable(texts[1]) == texts[1]
    assert base.missing_characters(texts) == missing
    assert [t.text for t in base.transcribe(CLIPS)] == before
    recordings = Recordings(base.prepare(CLIPS[:2]), texts)
    config = FineTuneConfig(preset=base.spec.presets[0], learning_rate=2e-2, steps=20, batch=2)
    delta = fine_tune(base, recordings, config)
    assert delta.output_rows is not None
    assert delta.output_rows.alphabet == missing
    taught = base.using([delta])
    assert taught.missing_characters(texts) == ""
    assert loss_of(taught, CLIPS[:2], texts) < 0.9 * loss_of(grown, CLIPS[:2], texts)
    louder = base.prepare([1.2 * CLIPS[1], 1.2 * CLIPS[0]])
    four = Recordings([*recordings.audio, *louder], [*texts, *texts[::-1]])  # each fold holds both texts
    chosen = fine_tune(base, four, replace(config, folds=2))
    assert chosen.about["steps"] != 0, "what the base cannot write is no reason to keep it"


# Deltas


@pytest.mark.parametrize("preset", PRESETS)
def test_a_view_shares_the_base_and_leaves_it_as_it_is(
    base: Recogniser, preset: Preset, tmp_path: Path
) -> None:
    if preset not in base.spec.presets:
        pytest.skip("no preset of this kind")
    heard = base.transcribe(CLIPS)
    made = nudged(base, preset, by=0.5 if preset == "frontend" else 0.1)
    save_delta(made, tmp_path / "delta")
    delta = load_delta(tmp_path / "delta")
    view = base.using([delta])
    torch.testing.assert_close(
        view.text_log_probs(CLIPS, TEXTS),
        base.using([made]).text_log_probs(CLIPS, TEXTS),
        atol=0.05,
        rtol=0.05,
    )
    assert view.spec == base.spec
    assert not torch.allclose(
        view.text_log_probs(CLIPS, TEXTS), able(base).text_log_probs(CLIPS, TEXTS), atol=1e-5, rtol=1e-5
    )
    own = {name: value.data_ptr() for name, value in base.network.state_dict(keep_vars=True).items()}
    theirs = {name: value.data_ptr() for name, value in view.network.state_dict(keep_vars=True).items()}
    assert all(theirs[name] == place for name, place in own.items() if name not in delta.weights)
    assert not any(p.requires_grad for p in view.network.parameters())
    assert base.transcribe(CLIPS) == heard
    assert base.using([]) is base
    assert base.using([delta]).transcribe(CLIPS) == view.transcribe(CLIPS)


def test_deltas_add_up(base: Recogniser) -> None:
    first, second = nudged(base, seed=1, by=0.05), replace(nudged(base, seed=2, by=0.05), output_rows=None)
    both = base.using([first, second]).text_log_probs(CLIPS, TEXTS)
    torch.testing.assert_close(
        base.using([first]).using([second]).text_log_probs(CLIPS, TEXTS), both, atol=2e-3, rtol=2e-3
    )
    torch.testing.assert_close(
        base.using([second, first]).text_log_probs(CLIPS, TEXTS), both, atol=2e-3, rtol=2e-3
    )
    assert not torch.allclose(base.using([first]).text_log_probs(CLIPS, TEXTS), both, atol=1e-3, rtol=1e-3)


def test_a_delta_of_another_base_is_refused_in_a_line(base: Recogniser) -> None:
    delta = nudged(base)
    for other in (
        replace(delta, base="o" * 64),
        Delta("o" * 64),
        Delta(base.spec.digest, {"no.such": torch.ones(1)}),
    ):
        with pytest.raises(UserError, match=r"made for base|does not have") as caught:
            base.using([other])
        assert "\n" not in str(caught.value)


def test_threads_on_one_base_do_not_meet(base: Recogniser) -> None:
    views = [base.using([nudged(base, seed=seed)]) for seed in range(3)]

    def used(number: int) -> tuple[torch.Tensor, list[Transcript]]:
        view = views[number % 3]
        return view.text_log_probs(CLIPS, TEXTS), view.transcribe(CLIPS[number % 2 :], TIMED)

    alone = [used(number) for number in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(used, [*range(6)] * 2))
    for number, (scores, heard) in enumerate(together):
        torch.testing.assert_close(scores, alone[number % 6][0], atol=1e-4, rtol=1e-4)
        assert [[s.words for s in t.segments] for t in heard] == [
            [s.words for s in t.segments] for t in alone[number % 6][1]
        ]


# Words


def test_an_embedder_gives_unit_vectors_that_silence_behind_a_batch_does_not_change(base: Recogniser) -> None:
    if not isinstance(base, WordEmbedder):
        pytest.skip("this kind tells no words apart")
    vectors = base.embed(CLIPS)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(CLIPS)))
    for vector, clip in zip(vectors, CLIPS, strict=True):
        torch.testing.assert_close(vector, base.embed([clip])[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(base.embed(base.encode(CLIPS)), vectors, atol=1e-4, rtol=1e-4)
