"""A voice from a few recordings: a delta that helps, a base that stays, choices made on what was held out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metavox.adaptation import fine_tune as module
from metavox.adaptation.adapter import Adapter
from metavox.adaptation.estimate import Judged, judge
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import Delta, LoRA
from metavox.recognisers.recogniser import Audio, Recipe, Recogniser
from tests.small_whisper import save_small_whisper

BASE = "b" * 64
SHORT = FineTuneConfig(preset="norms", steps=12, learning_rate=0.02)


class Small(ConformerRecogniser):
    """`ways` are its recipes."""

    ways: tuple[Recipe, ...] = (Recipe("norms", 0.02, 12, 16),)

    def recipes(self, recordings: int) -> tuple[Recipe, ...]:
        return self.ways


@pytest.fixture
def base(make_model: Callable[..., Network]) -> Small:
    return Small(make_model().requires_grad_(False), "small", BASE)


@pytest.fixture
def said(make_store: Callable[..., Store]) -> Recordings:
    store = make_store()
    rows = store.rows.index[store.rows["unit"] == "sentence"]
    return Recordings([store[row] for row in rows], store.rows.loc[rows, "text"].tolist())


def loss(recogniser: Recogniser, recordings: Recordings) -> float:
    with torch.no_grad():
        return float(recogniser.loss(recordings.audio, recordings.texts))


def moved(delta: Delta) -> float:
    size = sum(float(value.square().sum()) for value in delta.weights.values())
    if delta.lora:
        size += sum(float((delta.lora.scale * b @ a).square().sum()) for a, b in delta.lora.factors.values())
    return size


def same(one: Delta, other: Delta) -> bool:
    mine, theirs = (
        dict(d.weights) | {n: b @ a for n, (a, b) in (d.lora.factors if d.lora else {}).items()}
        for d in (one, other)
    )
    return mine.keys() == theirs.keys() and all(
        torch.equal(value, theirs[name]) for name, value in mine.items()
    )


@pytest.mark.parametrize("preset", ["norms", "lora", "head", "all"])
def test_the_delta_lowers_the_loss_and_the_base_stays(base: Small, said: Recordings, preset: str) -> None:
    before = {name: value.clone() for name, value in base.network.state_dict().items()}
    told: list[tuple[str, int, int, float]] = []
    config = replace(SHORT, preset=preset, seed=1)  # type: ignore[arg-type]
    delta = fine_tune(base, said, config, record=lambda *step: told.append(step))
    assert all(torch.equal(value, before[name]) for name, value in base.network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in base.network.parameters())
    assert delta.base == BASE
    assert [step[:3] for step in told] == [("adapting", i, 12) for i in range(1, 13)]
    assert all(np.isfinite(step[3]) for step in told)
    assert loss(base.using([delta]), said) < 0.9 * loss(base, said)
    assert delta.about == {
        "kind": "utterances",
        "recordings": 12,
        "preset": preset,
        "learning_rate": 0.02,
        "steps": 12,
    }
    assert same(delta, fine_tune(base, said, config))
    assert not same(delta, fine_tune(base, said, replace(config, seed=2)))


@pytest.mark.parametrize("preset", ["norms", "lora"])
def test_the_pull_keeps_it_near_the_base(base: Small, said: Recordings, preset: str) -> None:
    free, held = (
        fine_tune(base, said, replace(SHORT, preset=preset, l2_sp_weight=pull))  # type: ignore[arg-type]
        for pull in (0.0, 100.0)
    )
    assert moved(held) < 0.7 * moved(free)


def test_a_rate_of_nothing_leaves_a_weight_where_it_was(base: Small, said: Recordings) -> None:
    rates = {"ctc": 0.0, "ctc.bias": 0.02}
    delta = fine_tune(base, said, replace(SHORT, preset="head", rates=rates))
    assert not delta.weights["ctc.weight"].any()
    assert delta.weights["ctc.bias"].any()


# Cross-validation


def test_what_is_expected_is_of_recordings_that_taught_nothing(
    base: Small, said: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[set[int]] = []
    asked: list[tuple[bool, set[int]]] = []

    def train(
        self: Any, adapter: Adapter, recordings: Recordings, recipe: Recipe, what: str
    ) -> Iterator[tuple[int, float]]:
        taught.append({id(one) for one in recordings.audio})
        return iter([(step, 0.0) for step in range(recipe.steps)])

    def listen(recogniser: Recogniser, recordings: Recordings, *more: Any) -> Judged:
        asked.append((recogniser is base, {id(one) for one in recordings.audio}))
        return judge(recogniser, recordings, *more)

    monkeypatch.setattr(module._Run, "train", train)
    monkeypatch.setattr(module, "judge", listen)
    fine_tune(base, said, replace(SHORT, folds=3))
    everything = {id(one) for one in said.audio}
    before, after = ([ids for of_base, ids in asked if of_base is which] for which in (True, False))
    assert taught[0] == everything
    assert len(before) == len(after) == len(taught) - 1 == 3
    assert set().union(*before) == set().union(*after) == everything, "each is asked about"
    for inside, outside in zip(taught[1:], after, strict=True):
        assert outside == everything - inside
        assert outside


def test_copies_of_a_recording_are_never_on_both_sides(
    base: Small, said: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[Recordings] = []
    usual = module._Run.train

    def train(self: Any, adapter: Adapter, recordings: Recordings, *more: Any) -> Iterator[tuple[int, float]]:
        taught.append(recordings)
        return usual(self, adapter, recordings, *more)

    monkeypatch.setattr(module._Run, "train", train)
    order = [0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 0]
    copies = Recordings([said.audio[i].clone() for i in order], [said.texts[i] for i in order])  # type: ignore[union-attr]
    fine_tune(base, copies, replace(SHORT, steps=2, folds=2))
    assert len(taught[0]) == 12
    for recordings in taught[1:3]:
        kinds = [next(i for i in range(6) if torch.equal(one, said.audio[i])) for one in recordings.audio]  # type: ignore[arg-type]
        assert len(kinds) == 6
        assert all(kinds.count(kind) == 2 for kind in kinds)


@pytest.mark.parametrize("audio", ["one", "three"])
def test_too_few_recordings_that_differ_are_learned_from_without_an_estimate(
    base: Small, said: Recordings, audio: str
) -> None:
    distinct = 1 if audio == "one" else 3
    copies = said.some([i % distinct for i in range(8)])
    for recordings in (copies, said.some(range(3))):
        delta = fine_tune(base, recordings, replace(SHORT, folds=2))
        assert "expected" not in delta.about
        assert delta.about["steps"] == 12


def test_what_to_expect_is_told(base: Small, said: Recordings) -> None:
    delta = fine_tune(base, said, replace(SHORT, folds=3))
    expected: Any = delta.about["expected"]
    assert expected["folds"] == 3
    assert expected["tried"] == 1
    assert delta.about["steps"] == 12
    assert expected["cer"]["mean"] <= expected["cer_before"]["mean"]
    assert {"wer", "wer_before"} < expected.keys()


class Oracle(Small):
    """What is transcribed is set by hand: each adapted weight's distance from the base decides how much is wrong."""

    harm = True

    def transcribe(self, audio: Sequence[Audio], options: Any = None) -> list[Any]:
        from metavox.recognisers.transcript import Segment, Transcript

        apart = float((self.network.ctc.weight.detach() - self.clean).abs().sum())
        wrong = apart > 0 if self.harm else apart == 0
        texts = [("xx" if wrong and i == 0 else self.said[id(one)]) for i, one in enumerate(audio)]
        return [Transcript((Segment(text, 0.0, 1.0, 1.0),), 1.0) for text in texts]


@pytest.mark.parametrize("harm", [True, False])
def test_the_base_is_kept_where_adaptation_makes_words_worse_whatever_the_loss_says(
    make_model: Callable[..., Network], said: Recordings, harm: bool
) -> None:
    base = Oracle(make_model().requires_grad_(False), "small", BASE)
    base.clean, base.harm = base.network.ctc.weight.detach().clone(), harm  # type: ignore[attr-defined]
    base.said = {id(one): text for one, text in zip(said.audio, said.texts, strict=True)}  # type: ignore[attr-defined]
    delta = fine_tune(base, said, replace(SHORT, folds=2))
    expected: Any = delta.about["expected"]
    if harm:
        assert delta.about["steps"] == 0
        assert not delta.changes_recogniser
        assert expected["wer"] == expected["wer_before"]
        assert base.using([delta]).network.ctc.weight is not None
    else:
        assert delta.about["steps"] != 0
        assert expected["wer"]["mean"] < expected["wer_before"]["mean"]


def test_a_recipe_that_ruins_everything_leaves_the_base(base: Small, said: Recordings) -> None:
    wrong = Recordings(said.audio, [*said.texts[1:], said.texts[0]])
    delta = fine_tune(base, wrong, replace(SHORT, preset="all", learning_rate=1.0, folds=3))
    assert delta.about["steps"] == 0
    assert not delta.changes_recogniser
    start = LoRA(1, 1.0, {"ctc.weight": (torch.ones(1, 16), torch.ones(29, 1))})
    again = fine_tune(base, wrong, replace(SHORT, preset="lora", learning_rate=3.0, folds=3, start=start))
    assert again.about["steps"] == 0
    assert not again.changes_recogniser, "nor what it would have begun from"


def test_the_best_of_several_recipes_is_taken(base: Small, said: Recordings) -> None:
    useless, good = Recipe("head", 1e-7, 4, 16), Recipe("norms", 0.02, 12, 16)
    for ways in ((useless, good), (good, useless)):
        base.ways = ways
        delta = fine_tune(base, said, FineTuneConfig(folds=2))
        assert (delta.about["preset"], delta.about["learning_rate"]) == ("norms", 0.02)
        assert delta.about["expected"]["tried"] == 2  # type: ignore[index]
    base.ways = (useless, good)
    assert fine_tune(base, said, FineTuneConfig()).about["preset"] == "head", "without a choice the usual one"
    narrowed = fine_tune(base, said, FineTuneConfig(preset="norms", steps=2))
    assert (narrowed.about["preset"], narrowed.about["learning_rate"], narrowed.about["steps"]) == (
        "norms",
        0.02,
        2,
    )
    other = fine_tune(base, said, FineTuneConfig(preset="all", learning_rate=1e-4))
    assert (other.about["preset"], other.about["steps"]) == ("all", 4)


def test_a_recipe_that_keeps_half_is_judged_by_that_half(base: Small, said: Recordings) -> None:
    whole, half = Recipe("norms", 0.02, 12, 16), Recipe("norms", 0.02, 12, 16, scale=0.5)
    made = {}
    for recipe in (whole, half):
        base.ways = (recipe,)
        made[recipe] = fine_tune(base, said, FineTuneConfig(folds=2))
    assert moved(made[half]) == pytest.approx(0.25 * moved(made[whole]), rel=1e-3)
    assert made[half].about["expected"] != made[whole].about["expected"]


def test_without_time_the_usual_recipe_is_taken_and_nothing_is_promised(
    base: Small, said: Recordings
) -> None:
    base.ways = tuple(Recipe("norms", rate, 4, 16) for rate in (0.02, 0.01, 0.005))
    hurried = fine_tune(base, said, FineTuneConfig(folds=2, budget_s=0.0)).about
    assert "expected" not in hurried
    assert (hurried["learning_rate"], hurried["steps"]) == (0.02, 4)
    for budget in (None, 3600.0):
        expected = fine_tune(base, said, FineTuneConfig(folds=2, budget_s=budget)).about["expected"]
        assert (expected["folds"], expected["tried"]) == (2, 3)


# Divergence


class Exploding(Small):
    """The loss is out of all bounds from the `good`th step on."""

    good, calls = 6, 0

    def loss(self, audio: Sequence[Audio], texts: Sequence[str]) -> torch.Tensor:
        Exploding.calls += 1
        value = super().loss(audio, texts)
        return value * (1.0 if Exploding.calls <= self.good else 1e3)


def test_a_learning_rate_that_diverges_stops_says_so_and_keeps_the_best(
    base: Small, said: Recordings
) -> None:
    told: list[float] = []
    config = replace(SHORT, preset="all", learning_rate=30.0, steps=16)
    delta = fine_tune(base, said, config, record=lambda *step: told.append(step[3]))
    assert len(told) < 16
    assert "a lower learning rate than 30 keeps it" in str(delta.about["diverged"])
    assert delta.about["steps"] == 0
    assert loss(base.using([delta]), said) == pytest.approx(loss(base, said)), "the base was best"


def test_what_was_learned_before_it_diverged_is_kept(
    make_model: Callable[..., Network], said: Recordings
) -> None:
    base = Exploding(make_model().requires_grad_(False), "small", BASE)
    Exploding.calls = 0
    delta = fine_tune(base, said, replace(SHORT, steps=16))
    assert delta.about["steps"] == 4, "looked at after 4 and 8, and the 7th was wrong already"
    Exploding.calls = -1000
    recipe = Recipe("norms", 0.02, 16, 16)
    run = module._Run(base, said, SHORT, None, lambda *_: None)
    adapter = run.adapter(recipe)
    for step, _ in run.train(adapter, run.recordings, recipe, ""):
        if step == 3:
            break
    assert same(delta, adapter.delta({}))


def test_a_rate_that_diverges_in_every_fold_is_told_too(base: Small, said: Recordings) -> None:
    delta = fine_tune(base, said, replace(SHORT, preset="all", learning_rate=30.0, steps=16, folds=2))
    assert delta.about["steps"] == 0
    assert not delta.changes_recogniser
    assert "lower learning rate" in str(delta.about["diverged"])
    base.ways = (Recipe("all", 30.0, 16, 16), Recipe("norms", 0.02, 12, 16))
    saved = fine_tune(base, said, FineTuneConfig(folds=2))
    assert saved.about["preset"] == "norms"
    assert "diverged" not in saved.about


# Elsewhere


def test_samples_are_moved_before_they_teach_and_what_is_prepared_otherwise_stays(
    base: Small, said: Recordings, tmp_path: Path
) -> None:
    moved: list[int] = []

    def move(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        moved.append(len(samples))
        return -samples + float(random.normal())

    whisper = registry.load(save_small_whisper(tmp_path / "small-whisper"), "small-whisper")
    clips = [np.random.default_rng(i).normal(size=8000 + i).astype(np.float32) for i in range(3)]
    spoken = Recordings(whisper.prepare(clips), ["a b", "c d", "e f"])
    config = FineTuneConfig(steps=2, batch=3)
    here, there = (fine_tune(whisper, spoken, replace(config, environment=way)) for way in (None, move))
    assert sorted(moved) == sorted([8000, 8001, 8002] * 2)
    assert not same(here, there)
    moved.clear()
    fine_tune(base, said, replace(SHORT, environment=move, steps=1))
    assert not moved


# Texts


def test_characters_that_the_base_lacks_are_learned_and_undone_by_leaving_them_out(
    base: Small, said: Recordings
) -> None:
    texts = [text.translate(str.maketrans("abcdefgh", "абвгдежз")) for text in said.texts]
    cyrillic = Recordings(said.audio, texts)
    delta = fine_tune(base, cyrillic, replace(SHORT, steps=60, preset="frontend"))
    assert delta.output_rows is not None
    assert delta.output_rows.alphabet == "абвгдежз"
    assert base.missing_characters(texts) == "абвгдежз"
    adapted = base.using([delta])
    assert adapted.missing_characters(texts) == ""
    assert loss(adapted, cyrillic) < 0.8 * loss(base.grown("абвгдежз"), cyrillic)


def test_new_characters_are_chosen_by_cross_validation_too(base: Small, said: Recordings) -> None:
    """The base alone cannot write them: its loss of nothing is no measure."""
    with torch.no_grad():
        base.network.ctc.bias[0] = 100.0  # so sure of nothing that the loss of an empty text is 0
    texts = [text.translate(str.maketrans("abcdefgh", "абвгдежз")) for text in said.texts]
    delta = fine_tune(
        base,
        Recordings(said.audio, texts),
        replace(SHORT, preset="head", learning_rate=0.5, steps=40, folds=2),
    )
    assert delta.about["steps"] != 0
    assert delta.output_rows is not None


@pytest.mark.parametrize("texts", [["", ""], ["?!", "..."], ["", "—"]])
def test_texts_that_nothing_can_write_are_refused_in_a_line(base: Small, texts: list[str]) -> None:
    with pytest.raises(UserError, match="none of 2 texts can be written by small") as caught:
        fine_tune(base, Recordings([torch.zeros(9, 16)] * 2, texts), SHORT)
    assert "\n" not in str(caught.value)


def test_recordings_without_a_text_or_a_sound_are_left_out(base: Small, said: Recordings) -> None:
    more = Recordings([*said.audio, torch.zeros(0, 16), said.audio[0]], [*said.texts, "ab", "!"])
    assert same(fine_tune(base, more, SHORT), fine_tune(base, said, SHORT))


# Rehearsal


def test_a_share_of_each_batch_is_general_speech(
    base: Small, said: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[tuple[int, int]] = []
    own = {id(one) for one in said.audio[:6]}
    usual = Small.perturb

    def perturb(self: Small, audio: Sequence[Audio], random: np.random.Generator) -> list[Audio]:
        batches.append((sum(id(one) in own for one in audio), len(audio)))
        return usual(self, audio, random)

    monkeypatch.setattr(Small, "perturb", perturb)
    for share, batch, expected in ((0.25, 8, (6, 8)), (0.5, 4, (2, 4)), (0.0, 4, (4, 4))):
        batches.clear()
        config = replace(SHORT, steps=3, batch=batch, rehearsal_share=share)
        fine_tune(base, said.some(range(6)), config, said.some(range(6, 12)))
        assert batches == [expected] * 3
    batches.clear()
    fine_tune(base, said.some(range(6)), replace(SHORT, steps=1, batch=8))
    assert batches == [(6, 6)], "never one twice"


def test_rehearsal_keeps_what_the_base_could_do(base: Small, said: Recordings) -> None:
    other = said.some(range(6, 12))
    taught = base.using([fine_tune(base, other, replace(SHORT, preset="all", steps=40))])
    wrong = Recordings(said.audio[:6], ["gg hh"] * 6)
    taught.spec = replace(taught.spec, digest="t" * 64)
    fresh = Small(taught.network, "taught", "t" * 64)
    config = replace(SHORT, preset="all", steps=30, batch=8, rehearsal_share=0.5)
    forgetful, kept = (fresh.using([fine_tune(fresh, wrong, config, general)]) for general in (None, other))
    assert loss(kept, other) < 0.7 * loss(forgetful, other)
    assert loss(kept, wrong) < loss(fresh, wrong)
