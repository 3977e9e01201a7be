"""Cross-validation of recipes on held-out recordings, and the expected error rates."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from metavox.adaptation import fine_tune as module
from metavox.adaptation.adapter import Adapter
from metavox.adaptation.estimate import Estimate, estimate_errors
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import LoRA
from metavox.recognisers.recogniser import Audio, Recipe, Recogniser
from tests.adaptation.tuning import BASE, SHORT, Small, squared_norm


def test_expectations_come_from_held_out_recordings(
    base: Small, utterances: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: list[set[int]] = []
    evaluated: list[tuple[bool, set[int]]] = []

    def train(
        self: Any, adapter: Adapter, recordings: Recordings, recipe: Recipe, what: str
    ) -> Iterator[tuple[int, float]]:
        trained_on.append({id(recording) for recording in recordings.audio})
        return iter([(step, 0.0) for step in range(recipe.steps)])

    def estimate(recogniser: Recogniser, recordings: Recordings, *more: Any) -> Estimate:
        evaluated.append((recogniser is base, {id(recording) for recording in recordings.audio}))
        return estimate_errors(recogniser, recordings, *more)

    monkeypatch.setattr(module._FineTuning, "train", train)
    monkeypatch.setattr(module, "estimate_errors", estimate)
    fine_tune(base, utterances, replace(SHORT, folds=3))
    all_ids = {id(recording) for recording in utterances.audio}
    before, after = ([ids for of_base, ids in evaluated if of_base is wanted] for wanted in (True, False))
    assert trained_on[0] == all_ids
    assert len(before) == len(after) == len(trained_on) - 1 == 3
    assert set().union(*before) == set().union(*after) == all_ids, "every recording is held out once"
    for training, held_out in zip(trained_on[1:], after, strict=True):
        assert held_out == all_ids - training
        assert held_out


def test_copies_of_a_recording_are_held_out_together(
    base: Small, utterances: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: list[Recordings] = []
    original = module._FineTuning.train

    def train(self: Any, adapter: Adapter, recordings: Recordings, *more: Any) -> Iterator[tuple[int, float]]:
        trained_on.append(recordings)
        return original(self, adapter, recordings, *more)

    monkeypatch.setattr(module._FineTuning, "train", train)
    order = [0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 0]
    copies = Recordings([utterances.audio[i].clone() for i in order], [utterances.texts[i] for i in order])  # type: ignore[union-attr]
    fine_tune(base, copies, replace(SHORT, steps=2, folds=2))
    assert len(trained_on[0]) == 12
    for recordings in trained_on[1:3]:
        sources = [
            next(i for i in range(6) if torch.equal(recording, utterances.audio[i]))
            for recording in recordings.audio
        ]  # type: ignore[arg-type]
        assert len(sources) == 6
        assert all(sources.count(source) == 2 for source in sources)


@pytest.mark.parametrize("distinct", [1, 3])
def test_too_few_distinct_recordings_give_no_estimate(
    base: Small, utterances: Recordings, distinct: int
) -> None:
    copies = utterances.subset([i % distinct for i in range(8)])
    for recordings in (copies, utterances.subset(range(3))):
        delta = fine_tune(base, recordings, replace(SHORT, folds=2))
        assert "expected" not in delta.about
        assert delta.about["steps"] == 12


def test_expectations_are_in_the_delta(base: Small, utterances: Recordings) -> None:
    delta = fine_tune(base, utterances, replace(SHORT, folds=3))
    expected: Any = delta.about["expected"]
    assert expected["folds"] == 3
    assert expected["tried"] == 1
    assert delta.about["steps"] == 12
    assert expected["cer"]["mean"] <= expected["cer_before"]["mean"]
    assert {"wer", "wer_before"} < expected.keys()


class ScriptedErrors(Small):
    """Gets one transcript of each batch wrong: after adaptation if `harm` is true, otherwise before it."""

    harm = True

    def transcribe(self, audio: Sequence[Audio], options: Any = None) -> list[Any]:
        from metavox.recognisers.transcript import Segment, Transcript

        distance = float((self.network.ctc.weight.detach() - self.clean).abs().sum())
        wrong = distance > 0 if self.harm else distance == 0
        texts = [
            ("xx" if wrong and i == 0 else self.utterances[id(recording)])
            for i, recording in enumerate(audio)
        ]
        return [Transcript((Segment(text, 0.0, 1.0, 1.0),), 1.0) for text in texts]


@pytest.mark.parametrize("harm", [True, False])
def test_the_base_is_kept_if_adaptation_raises_word_errors_even_if_it_lowers_the_loss(
    make_model: Callable[..., Network], utterances: Recordings, harm: bool
) -> None:
    base = ScriptedErrors(make_model().requires_grad_(False), "small", BASE)
    base.clean, base.harm = base.network.ctc.weight.detach().clone(), harm  # type: ignore[attr-defined]
    base.utterances = {
        id(recording): text for recording, text in zip(utterances.audio, utterances.texts, strict=True)
    }  # type: ignore[attr-defined]
    delta = fine_tune(base, utterances, replace(SHORT, folds=2))
    expected: Any = delta.about["expected"]
    if harm:
        assert delta.about["steps"] == 0
        assert not delta.changes_recogniser
        assert expected["wer"] == expected["wer_before"]
        assert base.using([delta]).network.ctc.weight is not None
    else:
        assert delta.about["steps"] != 0
        assert expected["wer"]["mean"] < expected["wer_before"]["mean"]


def test_a_harmful_recipe_leaves_the_base_unchanged(base: Small, utterances: Recordings) -> None:
    mislabelled = Recordings(utterances.audio, [*utterances.texts[1:], utterances.texts[0]])
    delta = fine_tune(base, mislabelled, replace(SHORT, preset="all", learning_rate=1.0, folds=3))
    assert delta.about["steps"] == 0
    assert not delta.changes_recogniser
    start = LoRA(1, 1.0, {"ctc.weight": (torch.ones(1, 16), torch.ones(29, 1))})
    again = fine_tune(
        base, mislabelled, replace(SHORT, preset="lora", learning_rate=3.0, folds=3, start=start)
    )
    assert again.about["steps"] == 0
    assert not again.changes_recogniser, "the start is dropped too"


def test_the_best_of_several_recipes_is_chosen(base: Small, utterances: Recordings) -> None:
    useless, good = Recipe("head", 1e-7, 4, 16), Recipe("norms", 0.02, 12, 16)
    for candidates in ((useless, good), (good, useless)):
        base.candidates = candidates
        delta = fine_tune(base, utterances, FineTuneConfig(folds=2))
        assert (delta.about["preset"], delta.about["learning_rate"]) == ("norms", 0.02)
        assert delta.about["expected"]["tried"] == 2  # type: ignore[index]
    base.candidates = (useless, good)
    assert fine_tune(base, utterances, FineTuneConfig()).about["preset"] == "head", (
        "without cross-validation, the first recipe is used"
    )
    narrowed = fine_tune(base, utterances, FineTuneConfig(preset="norms", steps=2))
    assert (narrowed.about["preset"], narrowed.about["learning_rate"], narrowed.about["steps"]) == (
        "norms",
        0.02,
        2,
    )
    other = fine_tune(base, utterances, FineTuneConfig(preset="all", learning_rate=1e-4))
    assert (other.about["preset"], other.about["steps"]) == ("all", 4)


def test_a_scaled_recipe_is_evaluated_with_its_scale(base: Small, utterances: Recordings) -> None:
    whole, half = Recipe("norms", 0.02, 12, 16), Recipe("norms", 0.02, 12, 16, scale=0.5)
    deltas = {}
    for recipe in (whole, half):
        base.candidates = (recipe,)
        deltas[recipe] = fine_tune(base, utterances, FineTuneConfig(folds=2))
    assert squared_norm(deltas[half]) == pytest.approx(0.25 * squared_norm(deltas[whole]), rel=1e-3)
    assert deltas[half].about["expected"] != deltas[whole].about["expected"]


def test_a_time_budget_of_zero_uses_the_default_recipe_without_an_estimate(
    base: Small, utterances: Recordings
) -> None:
    base.candidates = tuple(Recipe("norms", rate, 4, 16) for rate in (0.02, 0.01, 0.005))
    about = fine_tune(base, utterances, FineTuneConfig(folds=2, budget_s=0.0)).about
    assert "expected" not in about
    assert (about["learning_rate"], about["steps"]) == (0.02, 4)
    for budget in (None, 3600.0):
        expected = fine_tune(base, utterances, FineTuneConfig(folds=2, budget_s=budget)).about["expected"]
        assert (expected["folds"], expected["tried"]) == (2, 3)
