"""A study of Optuna in a folder, which several processes can share.

Its journal records every trial. A running trial holds a lock, which the system releases when its process dies; whoever
asks next marks the trial as failed and puts its values first in the queue.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
import yaml

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.search.locks import lock
from metavox.search.space import Space, Value

if TYPE_CHECKING:
    import optuna

Pruner = Literal["median", "halving", "none"]
Direction = Literal["maximize", "minimize"]
RETRIES = 2  # of the values of a trial whose process died
RANDOM_TRIALS = 6  # before the sampler models the results
JOURNAL, BEST, TABLE = "journal.log", "best.yaml", "trials.csv"


@dataclass(frozen=True)
class StudySpec:
    """What a study searches; `about` identifies everything else that the value of a trial depends on."""

    space: Space
    direction: Direction
    about: str
    pruner: Pruner = "none"


@dataclass(frozen=True)
class Asked:
    """A running trial: its values, and the lock that says so until it is told."""

    trial: "optuna.Trial"
    values: dict[str, Value]
    held: ExitStack

    @property
    def original(self) -> int:
        """The number of the trial, or of the killed one whose values it repeats."""
        return int(self.trial.user_attrs.get("of", self.trial.number))


@contextmanager
def open_study(folder: Path, spec: StudySpec, seed: int) -> Iterator["Study"]:
    """Open the study in `folder`, or create it. Raises UserError when the folder holds another study."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        study = _load(folder, spec)
        worker = next(n for n in range(1000) if held.enter_context(lock(folder / f"worker-{n}.lock")))
        sampler_seed = (seed + 7919 * worker + 104_729 * len(study.get_trials(deepcopy=False))) % 2**32
        study.sampler = optuna.samplers.TPESampler(
            seed=sampler_seed,
            n_startup_trials=RANDOM_TRIALS,
            constant_liar=True,  # values that are being tried elsewhere are not tried again
        )
        yield Study(folder, spec, study, {"worker": worker, "sampler_seed": sampler_seed}, held)


@dataclass(frozen=True)
class Study:
    """An open study."""

    folder: Path
    spec: StudySpec
    optuna_study: "optuna.Study"
    worker: Mapping[str, int]
    held: ExitStack = field(repr=False)

    def ask(self, trials: int) -> Asked | None:
        """Start a trial; None if, with those that run now, the study has `trials` of them."""
        with lock(self.folder / "study.lock", wait=True):
            self._fail_dead_trials()
            running = sum(state == "RUNNING" for state in self._states())
            if self.ended + running >= trials:
                return None
            trial = self.optuna_study.ask()
            held = self.held.enter_context(ExitStack())
            held.enter_context(lock(self._lock(trial.number)))
            values = {name: d.suggest(trial, name) for name, d in self.spec.space.items()}
        for name, attribute in self.worker.items():
            trial.set_user_attr(name, attribute)
        return Asked(trial, values, held)

    def tell(self, asked: Asked, value: float) -> None:
        """Record the value of a trial."""
        self.optuna_study.tell(asked.trial, value)
        asked.held.close()

    def tell_pruned(self, asked: Asked) -> None:
        self._tell_without_value(asked, "PRUNED")

    def tell_failed(self, asked: Asked, reason: str) -> None:
        """Record that these values cannot be used, with the reason in one line."""
        asked.trial.set_user_attr("failed", reason)
        self._tell_without_value(asked, "FAIL")

    def begin_with(self, values: Mapping[str, Value]) -> None:
        """Try these values first, if the study has no trial yet and they are in its space."""
        space = self.spec.space
        with lock(self.folder / "study.lock", wait=True):
            if not self._states() and all(d.contains(values[name]) for name, d in space.items()):
                self.optuna_study.enqueue_trial(dict(values))

    @property
    def succeeded(self) -> bool:
        """Whether any trial is complete or pruned."""
        return not {"COMPLETE", "PRUNED"}.isdisjoint(self._states())

    @property
    def ended(self) -> int:
        """How many trials are complete, pruned, or failed by their own values: these count only if another succeeded."""
        trials = self.optuna_study.get_trials(deepcopy=False)
        failed = sum("failed" in trial.user_attrs for trial in trials)
        states = self._states()
        return states.count("COMPLETE") + states.count("PRUNED") + (failed if self.succeeded else 0)

    def table(self) -> pd.DataFrame:
        """One row per trial, the best first: state, value, percent of the budget completed, attributes and parameters."""
        rows = [
            {
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "last_value": trial.intermediate_values[trial.last_step]
                if trial.last_step is not None
                else None,
                "percent": trial.last_step,
                **trial.user_attrs,
                **trial.params,
            }
            for trial in self.optuna_study.get_trials(deepcopy=False)
        ]
        table = pd.DataFrame(rows)
        table["_rank"] = table["value"].where(table["state"] == "complete")
        up = self.spec.direction == "minimize"
        ordered = table.sort_values("_rank", ascending=up, kind="stable", na_position="last")
        return ordered.drop(columns="_rank")

    def write(self) -> pd.DataFrame:
        """Write the table, and the best values as lines of params.yaml, to the folder; returns the table."""
        table = self.table()
        with written_aside(self.folder / TABLE) as aside:
            table.to_csv(aside, index=False)
        if "complete" in set(table["state"]):
            nested: dict[str, dict[str, Value]] = {}
            for name, value in self.optuna_study.best_params.items():
                section, _, key = name.partition(".")
                nested.setdefault(section, {})[key] = value
            with written_aside(self.folder / BEST) as aside:
                aside.write_text(yaml.safe_dump(nested, sort_keys=False), encoding="utf-8")
        return table

    def _tell_without_value(self, asked: Asked, state: Literal["PRUNED", "FAIL"]) -> None:
        import optuna

        self.optuna_study.tell(asked.trial, state=optuna.trial.TrialState[state])
        asked.held.close()

    def _fail_dead_trials(self) -> None:
        """Mark the trials whose process has died as failed, and put their values first in the queue."""
        import optuna

        running = (optuna.trial.TrialState.RUNNING,)
        for trial in self.optuna_study.get_trials(deepcopy=False, states=running):
            with lock(self._lock(trial.number)) as free:
                if not free:
                    continue
                self.optuna_study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                retry = int(trial.user_attrs.get("retry", 0)) + 1
                if trial.params.keys() == self.spec.space.keys() and retry <= RETRIES:
                    original = trial.user_attrs.get("of", trial.number)
                    self.optuna_study.enqueue_trial(dict(trial.params), {"retry": retry, "of": original})

    def _states(self) -> list[str]:
        return [trial.state.name for trial in self.optuna_study.get_trials(deepcopy=False)]

    def _lock(self, number: int) -> Path:
        return self.folder / f"trial-{number}.lock"


def checked(value: float, values: Mapping[str, Value]) -> float:
    """The value of a trial with these `values`. Raises UserError unless it is finite."""
    if not math.isfinite(value):
        raise UserError(f"{dict(values)}: the value is {value}; expected a finite number")
    return value


def _load(folder: Path, spec: StudySpec) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    journal = str(folder / JOURNAL)
    # Without the lock, processes that start together would create the study twice.
    with lock(folder / "study.lock", wait=True):
        storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
        study = optuna.create_study(
            storage=storage,
            study_name="metavox",
            direction=spec.direction,
            load_if_exists=True,
            pruner=_pruner(spec.pruner),
        )
        about = json.dumps([spec.about, {name: str(d) for name, d in spec.space.items()}])
        recorded = study.user_attrs.get("about")
        if recorded is None:
            study.set_user_attr("about", about)
        elif recorded != about:
            raise UserError(
                f"{folder}: holds a study of another space, other data or other parameters; choose another folder "
                "(--out; for the flow, --name), or restore those of that study"
            )
    return study


def _pruner(name: Pruner) -> "optuna.pruners.BasePruner":
    import optuna

    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=20)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4)
    return optuna.pruners.NopPruner()
