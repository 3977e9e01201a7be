"""A speaker, room or language from a few transcribed recordings: an adapter learns, and not far.

The usual recipe is departed from (other weights, another rate, other steps, nothing at all) where recordings that were
held out say so by more than their standard error.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.adaptation.checks import content
from metavox.adaptation.estimate import By, Estimate, estimate_errors, fold_numbers
from metavox.errors import UserError
from metavox.recognisers.delta import Delta, LoRA
from metavox.recognisers.recogniser import Audio, Preset, Recipe, Recogniser
from metavox.text import any_words
from metavox.training.loop import step_if_finite

NEW_ROWS_RATE = 10.0  # times the rate of what the base knows already
FEWEST = 4  # recordings that cross-validation needs
DIVERGED = 3.0  # times the first loss, for several steps running
PATIENCE = 3
KEPT = 4  # times in a training that its weights are set aside, in case it diverges
FOLD_COST = 1.3  # a fold, with what is heard of it afterwards, in trainings

Record = Callable[[str, int, int, float], None]
"""Told after every step: what it belongs to, its number, how many there are, the loss."""


@dataclass(frozen=True)
class FineTuneConfig:
    """What is None is the recogniser's own recipe, and a choice of cross-validation.

    `l2_sp_weight` weighs the squared distance from the base. With `folds` over 1 and recordings enough,
    cross-validation chooses; it takes on no further candidate that `budget_s` seconds would not be enough for (None: all
    of them). `rates` of some weights (by name, or the beginning of it) stand in
    for the learning rate, as a meta-learner finds them. `rehearsal_share` is how much of each batch is general speech.
    `environment` moves samples to where they will be heard, before the recogniser perturbs them; what was prepared as
    anything else stays.
    """

    preset: Preset | None = None
    learning_rate: float | None = None
    steps: int | None = None
    batch: int | None = None
    rank: int = 8
    alpha: float = 8.0
    l2_sp_weight: float = 0.0
    folds: int = 0
    budget_s: float | None = None
    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    rehearsal_share: float = 0.25
    start: LoRA | None = None
    environment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None


@dataclass(frozen=True)
class Recordings:
    """What is learned from: prepared recordings with their texts, in one language where it is known."""

    audio: Sequence[Audio]
    texts: Sequence[str]
    language: str = ""

    def __len__(self) -> int:
        return len(self.audio)

    def some(self, chosen: Sequence[int] | np.ndarray) -> "Recordings":
        return Recordings([self.audio[i] for i in chosen], [self.texts[i] for i in chosen], self.language)


def fine_tune(
    base: Recogniser,
    recordings: Recordings,
    config: FineTuneConfig = FineTuneConfig(),
    rehearsal: Recordings | None = None,
    record: Record | None = None,
) -> Delta:
    """Prepared recordings with their texts to a delta of `base`, which is left as it was.

    `rehearsal` is general speech with what the base itself hears in it, mixed in so that it is not forgotten. With
    cross-validation, `about["expected"]` says what error rates to expect of new recordings. Raises UserError when
    no text can be written.
    """
    run = _Run(base, recordings, config, rehearsal, record or (lambda *_: None))
    usual, *others = run.recipes()
    trained = run.trained(usual)
    chosen: Recipe | None = usual
    expected = None
    if config.folds > 1 and run.distinct >= FEWEST:
        chosen, expected = run.chosen(usual, others, trained.seconds)
        if chosen and chosen != usual:
            trained = run.trained(chosen)
    about: dict[str, object] = {
        "kind": "utterances",
        "recordings": len(run.recordings),
        "preset": trained.recipe.preset,
        "learning_rate": trained.recipe.learning_rate,
        "steps": trained.steps if chosen else 0,
    }
    if trained.recipe.scale != 1.0:
        about["scale"] = trained.recipe.scale
    if expected:
        about["expected"] = expected
    if trained.diverged:
        about["diverged"] = trained.diverged
    return trained.adapter.delta(about) if chosen else Delta(base.spec.digest, about=about)


@dataclass(frozen=True)
class _Trained:
    """An adapter after `steps` steps of a recipe; why there were no more, if it diverged."""

    recipe: Recipe
    adapter: Adapter
    steps: int
    seconds: float
    diverged: str = ""


class Diverged(Exception):
    """The loss went out of bounds."""


class _Run:
    """What all trainings of one call share."""

    def __init__(
        self,
        base: Recogniser,
        recordings: Recordings,
        config: FineTuneConfig,
        rehearsal: Recordings | None,
        record: Record,
    ):
        self.base, self.config, self.rehearsal, self.record = base, config, rehearsal, record
        self.began = time.monotonic()
        self.bad = 0  # steps running whose loss was out of bounds
        self.characters = base.missing_characters(recordings.texts)
        self.writer = writer = base.with_characters(self.characters) if self.characters else base
        usable = [
            i
            for i, text in enumerate(recordings.texts)
            if writer.writable(text) and writer.duration_s(recordings.audio[i]) > 0
        ]
        if not usable:
            raise UserError(
                f"none of {len(recordings)} texts can be written by {base.spec.name}; expected transcripts of the recordings"
            )
        self.recordings = recordings.some(usable)
        self.distinct = len({content(one) for one in self.recordings.audio})

    def recipes(self) -> list[Recipe]:
        """The recipes to choose among, as the configuration narrows them."""
        config = self.config
        usual, *others = self.base.recipes(len(self.recordings))
        if config.preset is not None:
            fitting = [r for r in (usual, *others) if r.preset == config.preset]
            usual, others = (fitting or [replace(usual, preset=config.preset)])[0], fitting[1:]
        fixed = {
            name: value
            for name in ("learning_rate", "steps", "batch")
            if (value := getattr(config, name)) is not None
        }
        return list(dict.fromkeys(replace(recipe, **fixed) for recipe in (usual, *others)))

    def adapter(self, recipe: Recipe) -> Adapter:
        config = AdapterConfig(recipe.preset, self.config.rank, self.config.alpha, self.config.seed)
        start = self.config.start or self.base.start if recipe.preset == "lora" else None
        return Adapter(self.base, config, self.characters, start)

    def trained(self, recipe: Recipe) -> _Trained:
        """An adapter of all recordings; as it was before it diverged, if it did."""
        adapter, began, diverged = self.adapter(recipe), time.monotonic(), ""
        good, taken, waiting = adapter.state(), 0, None
        try:
            for step, _ in self.train(adapter, self.recordings, recipe, "adapting"):
                if waiting and not self.bad:  # a step's loss is of the weights before it
                    (good, taken), waiting = waiting, None
                if (step + 1) % max(1, recipe.steps // KEPT) == 0:
                    waiting = adapter.state(), step + 1
            taken = recipe.steps
        except Diverged as error:
            adapter.restore(good)
            diverged = str(error)
        adapter.shrink(recipe.scale)
        return _Trained(recipe, adapter, taken, time.monotonic() - began, diverged)

    def train(
        self, adapter: Adapter, recordings: Recordings, recipe: Recipe, what: str
    ) -> Iterator[tuple[int, float]]:
        """Each step's number and loss, after it was taken. Raises Diverged."""
        peaks = {name: self._rate(name, recipe.learning_rate) for name in adapter.parameters}
        optimizer = torch.optim.Adam(
            [{"params": [weight], "peak": peaks[name]} for name, weight in adapter.parameters.items()]
        )
        random = np.random.default_rng(self.config.seed)
        torch.manual_seed(self.config.seed)
        batches = self._batches(adapter, recordings, recipe.batch, random)
        first, self.bad = math.nan, 0
        for step in range(recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * (1 - step / recipe.steps)
            batch = next(batches)
            loss = adapter.recogniser.loss(batch.audio, batch.texts)
            total = loss + self.config.l2_sp_weight * adapter.distance() if self.config.l2_sp_weight else loss
            value = step_if_finite(total, optimizer, list(adapter.parameters.values()))
            first = value if math.isnan(first) else first
            self.bad = self.bad + 1 if not value <= DIVERGED * max(first, 0.1) else 0
            if self.bad > PATIENCE:
                raise Diverged(
                    f"the loss went from {first:.2f} to {value:.2f} by step {step + 1}; a lower learning rate than "
                    f"{recipe.learning_rate:g} keeps it"
                )
            self.record(what, step + 1, recipe.steps, value)
            yield step, value

    def chosen(
        self, usual: Recipe, others: Sequence[Recipe], training_s: float
    ) -> tuple[Recipe | None, dict[str, object] | None]:
        """The recipe that served held-out recordings, None where none did, and what they made of it.

        Where there is time for no fold at all, the usual recipe, and nothing to expect. `training_s` is what the usual
        recipe took.
        """
        numbers = fold_numbers([content(one) for one in self.recordings.audio], self.config.folds)
        folds = min(int(numbers.max()) + 1, self._affordable(FOLD_COST * training_s))
        if folds == 0:
            return usual, None
        before = Estimate.pooled(
            [
                estimate_errors(self.base, self.recordings.some(np.flatnonzero(numbers == fold)), self.writer)
                for fold in range(folds)
            ]
        )
        # Where nearly all words are wrong they tell nothing apart.
        by: By = "loss" if before.word_error_rate > 0.6 else "word_errors"
        tried: list[tuple[Recipe | None, Estimate]] = [(None, before)]
        began = time.monotonic()
        for number, recipe in enumerate((usual, *others)):
            # A recipe that wins has to be trained on everything too.
            needed_s = (time.monotonic() - began) / max(1, number) + training_s
            if number and self._affordable(needed_s) == 0:
                break
            if judged := self._judged(recipe, numbers, folds, f"trying {number + 1} of {1 + len(others)}"):
                tried.append((recipe, judged))
        best, after = min(tried, key=lambda one: one[1].rank(by))
        by_usual = next((judged for recipe, judged in tried if recipe == usual), None)
        if by_usual and not after.clearly_better(by_usual, by):
            best, after = usual, by_usual
        return best, {
            "cer_before": before.rate("characters"),
            "cer": after.rate("characters"),
            "wer_before": before.rate("words"),
            "wer": after.rate("words"),
            "without_spaces": not any_words(self.recordings.texts),
            "folds": folds,
            "tried": len(tried) - 1,
        }

    def _judged(self, recipe: Recipe, numbers: np.ndarray, folds: int, what: str) -> Estimate | None:
        """What held-out recordings make of a recipe; None where it diverges."""
        parts = []
        for fold in range(folds):
            inside, outside = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
            adapter = self.adapter(recipe)
            try:
                for _ in self.train(adapter, self.recordings.some(inside), recipe, what):
                    pass
            except Diverged:
                return None
            adapter.shrink(recipe.scale)
            parts.append(estimate_errors(adapter.recogniser, self.recordings.some(outside)))
        return Estimate.pooled(parts)

    def _affordable(self, seconds: float) -> int:
        """How many things of so many seconds there is time for."""
        if self.config.budget_s is None:
            return self.config.folds
        left_s = self.config.budget_s - (time.monotonic() - self.began)
        return max(0, int(left_s / seconds))

    def _batches(
        self, adapter: Adapter, recordings: Recordings, size: int, random: np.random.Generator
    ) -> Iterator[Recordings]:
        """Perturbed recordings and, for a part of each batch, general speech; all of either have their turn before one
        has it again."""
        general = round(size * self.config.rehearsal_share) if self.rehearsal else 0
        own, other = (_turns(len(of) if of else 0, random) for of in (recordings, self.rehearsal))
        while True:
            chosen = recordings.some(list(islice(own, min(size - general, len(recordings)))))
            audio, texts = [self._elsewhere(one, random) for one in chosen.audio], list(chosen.texts)
            if self.rehearsal and general:
                more = self.rehearsal.some(list(islice(other, general)))
                audio, texts = [*audio, *more.audio], [*texts, *more.texts]
            yield Recordings(adapter.recogniser.perturb(audio, random), texts)

    def _elsewhere(self, audio: Audio, random: np.random.Generator) -> Audio:
        move = self.config.environment
        return move(audio, random) if move and isinstance(audio, np.ndarray) else audio

    def _rate(self, name: str, usual: float) -> float:
        if name.startswith("output_rows."):
            return usual * NEW_ROWS_RATE
        fitting = [known for known in self.config.rates if name.startswith(known)]
        return self.config.rates[max(fitting, key=len)] if fitting else usual


def _turns(count: int, random: np.random.Generator) -> Iterator[int]:
    while count:
        yield from random.permutation(count)
