"""Adaptation to a speaker, room or language: an adapter is fine-tuned on a few transcribed recordings.

Cross-validation replaces the default recipe by another one (other weights, learning rate or number of steps, or no
adaptation at all) only if held-out recordings improve by more than the standard error.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch

from metavox.adaptation.adapter import Adapter, AdapterConfig
from metavox.adaptation.checks import content_bytes
from metavox.adaptation.estimate import Criterion, Estimate, assign_folds, estimate_errors
from metavox.errors import UserError
from metavox.recognisers.delta import Delta, LoRA
from metavox.recognisers.recogniser import Audio, Preset, Recipe, Recogniser
from metavox.text import any_words
from metavox.training.loop import step_if_finite

NEW_ROWS_RATE = 10.0  # learning rate of output rows for new characters, relative to other weights
MIN_FOR_FOLDS = 4  # distinct recordings needed for cross-validation
DIVERGED = 3.0  # training has diverged if the loss exceeds this multiple of the first loss
PATIENCE = 3  # for more than this many steps in a row
SNAPSHOTS = 4  # of the weights per training, in case it diverges
FOLD_COST = 1.3  # time of a fold, including transcription, relative to a training

Record = Callable[[str, int, int, float], None]
"""Called after every step with a description of the training, the step, the number of steps and the loss."""


@dataclass(frozen=True)
class FineTuneConfig:
    """Options of `fine_tune`. Values that are None come from the recogniser's own recipes.

    `l2_sp_weight` weighs the squared distance from the base model. If `folds` is above 1 and there are enough
    recordings, cross-validation chooses the recipe; it tries further recipes as long as `budget_s` seconds allow (None:
    all of them). `rates` sets the learning rate of single weights, by name or prefix; without it, a learned start of the
    base brings its own. `rehearsal_share` is the share of general speech in each batch, and `start` the initial LoRA factors. `environment`
    moves samples into the environment of use before the recogniser perturbs them; other prepared audio is not moved.
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
    """Prepared recordings with their texts, and their language if it is known."""

    audio: Sequence[Audio]
    texts: Sequence[str]
    language: str = ""

    def __len__(self) -> int:
        return len(self.audio)

    def subset(self, rows: Sequence[int] | np.ndarray) -> "Recordings":
        return Recordings([self.audio[i] for i in rows], [self.texts[i] for i in rows], self.language)


def fine_tune(
    base: Recogniser,
    recordings: Recordings,
    config: FineTuneConfig = FineTuneConfig(),
    rehearsal: Recordings | None = None,
    record: Record | None = None,
) -> Delta:
    """Learn a delta of `base`, which is not changed, from prepared recordings with their texts.

    `rehearsal` is general speech with the base model's own transcripts, mixed in against forgetting. With
    cross-validation, `about["expected"]` holds the error rates to expect on new recordings. Raises UserError if the
    recogniser can write none of the texts.
    """
    tuning = _FineTuning(base, recordings, config, rehearsal, record or (lambda *_: None))
    default, *alternatives = tuning.recipes()
    trained = tuning.train_on_all(default)
    best: Recipe | None = default
    expected = None
    if config.folds > 1 and tuning.distinct >= MIN_FOR_FOLDS:
        best, expected = tuning.cross_validate(default, alternatives, trained.seconds)
        if best and best != default:
            trained = tuning.train_on_all(best)
    about: dict[str, object] = {
        "kind": "utterances",
        "recordings": len(tuning.recordings),
        "preset": trained.recipe.preset,
        "learning_rate": trained.recipe.learning_rate,
        "steps": trained.steps if best else 0,
    }
    if trained.recipe.scale != 1.0:
        about["scale"] = trained.recipe.scale
    if expected:
        about["expected"] = expected
    if trained.diverged:
        about["diverged"] = trained.diverged
    return trained.adapter.delta(about) if best else Delta(base.spec.digest, about=about)


@dataclass(frozen=True)
class _TrainedAdapter:
    """An adapter after `steps` steps of a recipe; if training diverged, `diverged` says how."""

    recipe: Recipe
    adapter: Adapter
    steps: int
    seconds: float
    diverged: str = ""


class Diverged(Exception):
    """The loss exceeded its limit for several steps in a row."""


class _FineTuning:
    """The state shared by all trainings of one call."""

    def __init__(
        self,
        base: Recogniser,
        recordings: Recordings,
        config: FineTuneConfig,
        rehearsal: Recordings | None,
        record: Record,
    ):
        self.base, self.config, self.rehearsal, self.record = base, config, rehearsal, record
        self.start_time = time.monotonic()
        self.diverging_steps = 0  # in a row, with a loss over the limit
        self.characters = base.missing_characters(recordings.texts)
        self.writer = writer = base.with_characters(self.characters) if self.characters else base
        usable = [
            i
            for i, text in enumerate(recordings.texts)
            if writer.writable(text) and writer.duration_s(recordings.audio[i]) > 0
        ]
        if not usable:
            raise UserError(
                f"none of {len(recordings)} texts can be written by {base.spec.name}; expected transcripts of the recordings in its "
                "alphabet"
            )
        self.recordings = recordings.subset(usable)
        self.distinct = len({content_bytes(recording) for recording in self.recordings.audio})

    def recipes(self) -> list[Recipe]:
        """The candidate recipes, restricted by the configuration."""
        config = self.config
        default, *alternatives = self.base.recipes(len(self.recordings))
        if config.preset is not None:
            matching = [r for r in (default, *alternatives) if r.preset == config.preset]
            default, alternatives = (matching or [replace(default, preset=config.preset)])[0], matching[1:]
        fixed = {
            name: loss_value
            for name in ("learning_rate", "steps", "batch")
            if (loss_value := getattr(config, name)) is not None
        }
        return list(dict.fromkeys(replace(recipe, **fixed) for recipe in (default, *alternatives)))

    def adapter(self, recipe: Recipe) -> Adapter:
        config = AdapterConfig(recipe.preset, self.config.rank, self.config.alpha, self.config.seed)
        start = self.config.start or self.base.start if recipe.preset == "lora" else None
        return Adapter(self.base, config, self.characters, start)

    def train_on_all(self, recipe: Recipe) -> _TrainedAdapter:
        """Train an adapter on all recordings; if training diverges, the last good snapshot is kept."""
        adapter, start_time, diverged = self.adapter(recipe), time.monotonic(), ""
        snapshot, steps_taken, pending = adapter.state(), 0, None
        try:
            for step, _ in self.train(adapter, self.recordings, recipe, "adapting"):
                if (
                    pending and not self.diverging_steps
                ):  # the loss of a step tells about the weights before it
                    (snapshot, steps_taken), pending = pending, None
                if (step + 1) % max(1, recipe.steps // SNAPSHOTS) == 0:
                    pending = adapter.state(), step + 1
            steps_taken = recipe.steps
        except Diverged as error:
            adapter.restore(snapshot)
            diverged = str(error)
        adapter.shrink(recipe.scale)
        return _TrainedAdapter(recipe, adapter, steps_taken, time.monotonic() - start_time, diverged)

    def train(
        self, adapter: Adapter, recordings: Recordings, recipe: Recipe, description: str
    ) -> Iterator[tuple[int, float]]:
        """Train and yield each step and its loss. Raises Diverged."""
        peaks = {name: self._rate(name, recipe.learning_rate, recipe.preset) for name in adapter.parameters}
        optimizer = torch.optim.Adam(
            [{"params": [weight], "peak": peaks[name]} for name, weight in adapter.parameters.items()]
        )
        random = np.random.default_rng(self.config.seed)
        torch.manual_seed(self.config.seed)
        batches = self._batches(adapter, recordings, recipe.batch, random)
        first_loss, self.diverging_steps = math.nan, 0
        for step in range(recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * (1 - step / recipe.steps)
            batch = next(batches)
            loss = adapter.recogniser.loss(batch.audio, batch.texts)
            total = loss + self.config.l2_sp_weight * adapter.distance() if self.config.l2_sp_weight else loss
            loss_value = step_if_finite(total, optimizer, list(adapter.parameters.values()))
            first_loss = loss_value if math.isnan(first_loss) else first_loss
            self.diverging_steps = (
                self.diverging_steps + 1 if not loss_value <= DIVERGED * max(first_loss, 0.1) else 0
            )
            if self.diverging_steps > PATIENCE:
                raise Diverged(
                    f"the loss rose from {first_loss:.2f} to {loss_value:.2f} by step {step + 1}; choose a lower learning "
                    f"rate than {recipe.learning_rate:g}"
                )
            self.record(description, step + 1, recipe.steps, loss_value)
            yield step, loss_value

    def cross_validate(
        self, default: Recipe, alternatives: Sequence[Recipe], training_s: float
    ) -> tuple[Recipe | None, dict[str, object] | None]:
        """The best recipe on held-out recordings, or None if none improves on the base model, and the expected errors.

        Returns the default recipe and no expectation if there is no time for a single fold. `training_s` is the training
        time of the default recipe.
        """
        fold_of = assign_folds(
            [content_bytes(recording) for recording in self.recordings.audio], self.config.folds
        )
        folds = min(int(fold_of.max()) + 1, self._affordable(FOLD_COST * training_s))
        if folds == 0:
            return default, None
        before = Estimate.pooled(
            [
                estimate_errors(
                    self.base, self.recordings.subset(np.flatnonzero(fold_of == fold)), self.writer
                )
                for fold in range(folds)
            ]
        )
        # If most words are wrong, word errors do not discriminate between recipes.
        criterion: Criterion = "loss" if before.word_error_rate > 0.6 else "word_errors"
        candidates: list[tuple[Recipe | None, Estimate]] = [(None, before)]
        start_time = time.monotonic()
        for index, recipe in enumerate((default, *alternatives)):
            # The chosen recipe must also be trained on all recordings.
            needed_s = (time.monotonic() - start_time) / max(1, index) + training_s
            if index and self._affordable(needed_s) == 0:
                break
            if errors := self._held_out_errors(
                recipe, fold_of, folds, f"trying {index + 1} of {1 + len(alternatives)}"
            ):
                candidates.append((recipe, errors))
        best, after = min(candidates, key=lambda candidate: candidate[1].rank(criterion))
        default_errors = next((errors for recipe, errors in candidates if recipe == default), None)
        if default_errors and not after.clearly_better(default_errors, criterion):
            best, after = default, default_errors
        return best, {
            "cer_before": before.rate("characters"),
            "cer": after.rate("characters"),
            "wer_before": before.rate("words"),
            "wer": after.rate("words"),
            "without_spaces": not any_words(self.recordings.texts),
            "folds": folds,
            "tried": len(candidates) - 1,
        }

    def _held_out_errors(
        self, recipe: Recipe, fold_of: np.ndarray, folds: int, description: str
    ) -> Estimate | None:
        """The errors of a recipe on held-out recordings; None if it diverges."""
        fold_errors = []
        for fold in range(folds):
            train_rows, held_out_rows = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            adapter = self.adapter(recipe)
            try:
                for _ in self.train(adapter, self.recordings.subset(train_rows), recipe, description):
                    pass
            except Diverged:
                return None
            adapter.shrink(recipe.scale)
            fold_errors.append(estimate_errors(adapter.recogniser, self.recordings.subset(held_out_rows)))
        return Estimate.pooled(fold_errors)

    def _affordable(self, seconds: float) -> int:
        """How many runs of this many seconds the remaining budget allows."""
        if self.config.budget_s is None:
            return self.config.folds
        left_s = self.config.budget_s - (time.monotonic() - self.start_time)
        return max(0, int(left_s / seconds))

    def _batches(
        self, adapter: Adapter, recordings: Recordings, size: int, random: np.random.Generator
    ) -> Iterator[Recordings]:
        """Batches of perturbed recordings, with a share of general speech. Each recording is used once per epoch."""
        general_count = round(size * self.config.rehearsal_share) if self.rehearsal else 0
        own_rows = _shuffled_epochs(len(recordings), random)
        general_rows = _shuffled_epochs(len(self.rehearsal) if self.rehearsal else 0, random)
        while True:
            batch = recordings.subset(list(islice(own_rows, min(size - general_count, len(recordings)))))
            audio, texts = (
                [self._in_environment(recording, random) for recording in batch.audio],
                list(batch.texts),
            )
            if self.rehearsal and general_count:
                rehearsed = self.rehearsal.subset(list(islice(general_rows, general_count)))
                audio, texts = [*audio, *rehearsed.audio], [*texts, *rehearsed.texts]
            yield Recordings(adapter.recogniser.perturb(audio, random), texts)

    def _in_environment(self, audio: Audio, random: np.random.Generator) -> Audio:
        environment = self.config.environment
        return environment(audio, random) if environment and isinstance(audio, np.ndarray) else audio

    def _rate(self, name: str, default: float, preset: Preset) -> float:
        if name.startswith("output_rows."):
            return default * NEW_ROWS_RATE
        rates = self.config.rates
        if not rates and self.config.start is None and preset == "lora":
            rates = {name: default * factor for name, factor in self.base.start_rates.items()}
        matching = [prefix for prefix in rates if name.startswith(prefix)]
        return rates[max(matching, key=len)] if matching else default


def _shuffled_epochs(count: int, random: np.random.Generator) -> Iterator[int]:
    while count:
        yield from random.permutation(count)
