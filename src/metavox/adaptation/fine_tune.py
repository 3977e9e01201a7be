"""A voice, room or language from a few transcribed recordings: an adapter learns, and not far.

Which weights move, how fast and for how many steps is chosen on recordings that were held out; doing nothing is
always among the choices.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.adaptation.checks import content
from metavox.adaptation.estimate import By, Judged, fold_numbers, judge
from metavox.errors import UserError
from metavox.learn.loop import step_if_finite
from metavox.recognisers.delta import Delta, LoRA
from metavox.recognisers.recogniser import Audio, Preset, Recipe, Recogniser

NEW_ROWS_RATE = 10.0  # times the rate of what the base knows already
LOOKS = 4  # times that held-out recordings are looked at while others are learned from
FEWEST = 4  # recordings that cross-validation needs
DIVERGED = 3.0  # times the first loss, for several steps running
PATIENCE = 3
LOOKS_COST = 1.3  # a fold, with what is heard of it meanwhile, in trainings

Record = Callable[[str, int, int, float], None]
"""Told after every step: what it belongs to, its number, how many there are, the loss."""


@dataclass(frozen=True)
class FineTuneConfig:
    """What is None is the recogniser's own recipe, and a choice of cross-validation.

    `l2_sp_weight` weighs the squared distance from the base. With `folds` over 1 and recordings enough,
    cross-validation chooses; it takes on no further candidate once `budget_s` seconds would not be enough for it and
    for the training itself (None: all of them). `rates` of some weights (by name, or the beginning of it) stand in
    for the learning rate, as a meta-learner finds them. `rehearsal_share` is how much of each batch is general speech.
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


@dataclass(frozen=True)
class Recordings:
    """What is learned from: prepared recordings with their texts."""

    audio: Sequence[Audio]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.audio)

    def some(self, chosen: Sequence[int] | np.ndarray) -> "Recordings":
        return Recordings([self.audio[i] for i in chosen], [self.texts[i] for i in chosen])


def fine_tune(
    base: Recogniser, recordings: Recordings, config: FineTuneConfig = FineTuneConfig(),
    rehearsal: Recordings | None = None, record: Record | None = None,
) -> Delta:  # fmt: skip
    """Prepared recordings with their texts to a delta of `base`, which is left as it was.

    `rehearsal` is general speech with what the base itself hears in it, mixed in so that it is not forgotten. With
    cross-validation, `about["expected"]` says what error rates to expect of new recordings. Raises UserError when
    no text can be written.
    """
    run = _Run(base, recordings, config, rehearsal, record or (lambda *_: None))
    recipes = run.recipes()
    chosen, stop, expected = recipes[0], recipes[0].steps, None
    if config.folds > 1 and run.distinct >= FEWEST:
        chosen, stop, expected = run.chosen(recipes)
    about: dict[str, object] = {
        "kind": "utterances", "recordings": len(run.recordings), "preset": chosen.preset,
        "learning_rate": chosen.learning_rate, "steps": stop,
    }  # fmt: skip
    if expected:
        about["expected"] = expected
    if run.diverged:
        about["diverged"] = run.diverged
    if not stop:
        return Delta(base.spec.digest, about=about)
    adapter = run.adapter(chosen)
    good, taken, waiting = adapter.state(), 0, None
    try:
        for step, _ in run.train(adapter, run.recordings, chosen, "adapting", stop):
            if waiting and not run.bad:  # a step's loss is of the weights before it
                (good, taken), waiting = waiting, None
            if (step + 1) % max(1, stop // LOOKS) == 0:
                waiting = adapter.state(), step + 1
    except Diverged as error:
        adapter.restore(good)
        about |= {"steps": taken, "diverged": str(error)}
    return adapter.delta(about)


class Diverged(Exception):
    """The loss went out of bounds."""


class _Run:
    """What all trainings of one call share."""

    def __init__(
        self, base: Recogniser, recordings: Recordings, config: FineTuneConfig,
        rehearsal: Recordings | None, record: Record,
    ):  # fmt: skip
        self.base, self.config, self.rehearsal, self.record = base, config, rehearsal, record
        self.began = time.monotonic()
        self.step_s = 0.0  # what a step takes, once that is known
        self.bad = 0  # steps running whose loss was out of bounds
        self.diverged = ""  # why cross-validation took none of the recipes
        self.characters = base.missing_characters(recordings.texts)
        self.writer = writer = base.grown(self.characters) if self.characters else base
        usable = [
            i for i, text in enumerate(recordings.texts)
            if writer.writable(text) and writer.duration_s(recordings.audio[i]) > 0
        ]  # fmt: skip
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

    def train(
        self, adapter: Adapter, recordings: Recordings, recipe: Recipe, what: str, stop: int
    ) -> Iterator[tuple[int, float]]:
        """Each step's number and loss, after it was taken, up to step `stop`; the rate falls towards the recipe's last
        step, wherever it stops. Raises Diverged."""
        peaks = {name: self._rate(name, recipe.learning_rate) for name in adapter.parameters}
        optimizer = torch.optim.Adam(
            [{"params": [weight], "peak": peaks[name]} for name, weight in adapter.parameters.items()]
        )
        random = np.random.default_rng(self.config.seed)
        torch.manual_seed(self.config.seed)
        first, self.bad = math.nan, 0
        for step in range(stop):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * (1 - step / recipe.steps)
            batch = self._batch(adapter, recordings, recipe.batch, random)
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
            self.record(what, step + 1, stop, value)
            yield step, value

    def chosen(self, recipes: Sequence[Recipe]) -> tuple[Recipe, int, dict[str, object] | None]:
        """The recipe and the number of steps that served held-out recordings best, and what these made of it.

        Where there is time for no fold at all, the usual recipe, and nothing to expect.
        """
        numbers = fold_numbers([content(one) for one in self.recordings.audio], self.config.folds)
        folds = min(int(numbers.max()) + 1, self._affordable(recipes[0]))
        if folds == 0:
            return recipes[0], recipes[0].steps, None
        before = Judged.pooled([
            judge(self.base, self.recordings.some(np.flatnonzero(numbers == fold)), self.writer)
            for fold in range(folds)
        ])  # fmt: skip
        tried: list[tuple[Recipe, int, Judged]] = []
        for number, recipe in enumerate(recipes):
            if number and self._affordable(recipe) < folds:
                break
            tried += self._looks(recipe, numbers, folds, f"trying {number + 1} of {len(recipes)}")
        # Where nearly all words are wrong they tell nothing apart.
        by: By = "loss" if before.word_error_rate > 0.6 else "word_errors"
        if tried:
            self.diverged = ""
        best, stop, after = min(tried, key=lambda one: one[2].rank(by), default=(recipes[0], 0, before))
        if not after.rank(by) < before.rank(by):
            stop, after = 0, before
        return best, stop, {
            "cer_before": before.rate("characters"), "cer": after.rate("characters"),
            "wer_before": before.rate("words"), "wer": after.rate("words"),
            "folds": folds, "tried": len({(r.preset, r.learning_rate) for r, *_ in tried}),
        }  # fmt: skip

    def _looks(
        self, recipe: Recipe, numbers: np.ndarray, folds: int, what: str
    ) -> list[tuple[Recipe, int, Judged]]:
        """What held-out recordings make of a recipe after a part of its steps and after all."""
        looks = sorted({max(1, round(recipe.steps * (i + 1) / LOOKS)) for i in range(LOOKS)})
        judged: dict[int, list[Judged]] = {look: [] for look in looks}
        for fold in range(folds):
            inside, outside = np.flatnonzero(numbers != fold), np.flatnonzero(numbers == fold)
            held_out, adapter = self.recordings.some(outside), self.adapter(recipe)
            try:
                for step, _ in self.train(adapter, self.recordings.some(inside), recipe, what, recipe.steps):
                    if step + 1 in judged:
                        judged[step + 1].append(judge(adapter.recogniser, held_out))
            except Diverged as error:
                self.diverged = str(error)
                return []
        return [(recipe, look, Judged.pooled(parts)) for look, parts in judged.items()]

    def _affordable(self, recipe: Recipe) -> int:
        """How many folds of a recipe there is time for before the training itself."""
        if self.config.budget_s is None:
            return self.config.folds
        if not self.step_s:
            ends = [
                time.monotonic()
                for _ in self.train(self.adapter(recipe), self.recordings, recipe, "looking", 3)
            ]
            self.step_s = (ends[-1] - ends[0]) / max(1, len(ends) - 1)  # the first is slower than the others
        training_s = self.step_s * recipe.steps
        left_s = self.config.budget_s - (time.monotonic() - self.began) - training_s
        return max(0, int(left_s / (LOOKS_COST * training_s)))

    def _batch(
        self, adapter: Adapter, recordings: Recordings, size: int, random: np.random.Generator
    ) -> Recordings:
        general = round(size * self.config.rehearsal_share) if self.rehearsal else 0
        chosen = recordings.some(_drawn(len(recordings), size - general, random))
        audio, texts = list(chosen.audio), list(chosen.texts)
        if self.rehearsal and general:
            other = self.rehearsal.some(_drawn(len(self.rehearsal), general, random))
            audio, texts = [*audio, *other.audio], [*texts, *other.texts]
        return Recordings(adapter.recogniser.perturb(audio, random), texts)

    def _rate(self, name: str, usual: float) -> float:
        if name.startswith("output_rows."):
            return usual * NEW_ROWS_RATE
        fitting = [known for known in self.config.rates if name.startswith(known)]
        return self.config.rates[max(fitting, key=len)] if fitting else usual


def _drawn(count: int, size: int, random: np.random.Generator) -> np.ndarray:
    return random.choice(count, min(size, count), replace=False)
