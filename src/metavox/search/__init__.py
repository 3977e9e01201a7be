"""Search over parameters with Optuna (Akiba et al. 2019), in a study that several processes share.

A study is a folder. Its journal records every trial, and each process that runs the same command joins the study. A
running trial holds a lock, which the system releases when its process dies; another process then marks the trial as
failed and puts its parameters first in the queue.
"""

import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import pandas as pd
import yaml

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.params import Params
from metavox.search.locks import lock
from metavox.search.space import Space, Value, with_values

if TYPE_CHECKING:
    import optuna

Pruner = Literal["median", "halving", "none"]
Report = Callable[[int, float], None]
RETRIES = 2  # of the parameters of a killed process
RANDOM_TRIALS = 6  # before the sampler models the results
JOURNAL, BEST, TABLE = "journal.log", "best.yaml", "trials.csv"


class Objective(Protocol):
    """The value of parameters, measured on development speakers and never on test speakers.

    `report(step, value)` takes intermediate values by percent of the budget, and raises when the trial is to be pruned.
    `about` identifies everything else that the value depends on; all trials of a study share it.
    """

    @property
    def direction(self) -> Literal["maximize", "minimize"]: ...

    @property
    def about(self) -> str: ...

    def __call__(self, params: Params, report: Report) -> float: ...


@dataclass(frozen=True)
class Search:
    """A search that ends when the study has `trials` complete or pruned trials, from all processes together."""

    objective: Objective
    space: Space
    params: Params
    folder: Path
    trials: int
    seed: int
    pruner: Pruner = "median"

    def run(self, progress: Callable[[int], None] = lambda ended: None) -> pd.DataFrame:
        """Run trials until there are enough; returns all of them, the best first, and writes them to the folder.

        Raises UserError when the folder holds another study, or when no trial succeeds.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            study = self._study()
            worker = next(
                n for n in range(1000) if stack.enter_context(lock(self.folder / f"worker-{n}.lock"))
            )
            seed = (self.seed + 7919 * worker + 104_729 * len(study.get_trials(deepcopy=False))) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
            self._work(study, {"worker": worker, "sampler_seed": seed, "seed": self.params.seed}, progress)
            table = trials_table(study)
            _write(self.folder, study, table)
        return table

    def _study(self) -> "optuna.Study":
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        journal = str(self.folder / JOURNAL)
        # Without the lock, processes that start together would create the study twice.
        with lock(self.folder / "study.lock", wait=True):
            storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
            study = optuna.create_study(
                storage=storage,
                study_name="metavox",
                direction=self.objective.direction,
                load_if_exists=True,
                pruner=_pruner(self.pruner),
            )
            about = json.dumps([self.objective.about, {name: str(d) for name, d in self.space.items()}])
            recorded = study.user_attrs.get("about")
            if recorded is None:
                study.set_user_attr("about", about)
            elif recorded != about:
                raise UserError(
                    f"{self.folder}: holds a study of another space, other data or other parameters; choose another folder "
                    "with --out, or restore those of that study"
                )
        return study

    def _work(self, study: "optuna.Study", worker: dict[str, int], progress: Callable[[int], None]) -> None:
        import optuna

        while True:
            with ExitStack() as stack:
                with lock(self.folder / "study.lock", wait=True):
                    self._fail_dead_trials(study)
                    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
                    ended = states.count("COMPLETE") + states.count("PRUNED")
                    progress(ended)
                    if ended + states.count("RUNNING") >= self.trials:
                        return
                    trial = study.ask()
                    stack.enter_context(lock(self._lock(trial.number)))
                for name, attribute in worker.items():
                    trial.set_user_attr(name, attribute)
                try:
                    value = self._value(trial)
                except optuna.TrialPruned:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                except UserError as error:  # these parameters cannot be used
                    trial.set_user_attr("failed", str(error))
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                    if not any(
                        t.state.is_finished() and t.state.name != "FAIL"
                        for t in study.get_trials(deepcopy=False)
                    ):
                        raise
                else:
                    study.tell(trial, value)

    def _value(self, trial: "optuna.Trial") -> float:
        import optuna

        values: dict[str, Value] = {name: d.suggest(trial, name) for name, d in self.space.items()}

        def report(step: int, value: float) -> None:
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned

        value = self.objective(with_values(self.params, values), report)
        if not math.isfinite(value):
            raise UserError(f"{values}: the value is {value}; expected a finite number")
        return value

    def _fail_dead_trials(self, study: "optuna.Study") -> None:
        """Mark the trials whose process has died as failed, and put their parameters first in the queue."""
        import optuna

        running = (optuna.trial.TrialState.RUNNING,)
        for trial in study.get_trials(deepcopy=False, states=running):
            with lock(self._lock(trial.number)) as free:
                if not free:
                    continue
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                retry = int(trial.user_attrs.get("retry", 0)) + 1
                if trial.params.keys() == self.space.keys() and retry <= RETRIES:
                    study.enqueue_trial(dict(trial.params), {"retry": retry, "of": trial.number})

    def _lock(self, number: int) -> Path:
        return self.folder / f"trial-{number}.lock"


def trials_table(study: "optuna.Study") -> pd.DataFrame:
    """One row per trial, the best first: state, value, percent of the budget completed, seeds and parameters."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value,
            "last_value": trial.intermediate_values[trial.last_step] if trial.last_step is not None else None,
            "percent": trial.last_step,
            **{
                name: trial.user_attrs.get(name) for name in ("retry", "of", "worker", "sampler_seed", "seed")
            },
            **trial.params,
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    table = pd.DataFrame(rows)
    table["_rank"] = table["value"].where(table["state"] == "complete")
    up = study.direction.name == "MINIMIZE"
    return table.sort_values("_rank", ascending=up, kind="stable", na_position="last").drop(columns="_rank")


def _write(folder: Path, study: "optuna.Study", table: pd.DataFrame) -> None:
    with written_aside(folder / TABLE) as aside:
        table.to_csv(aside, index=False)
    if "complete" not in set(table["state"]):
        return
    nested: dict[str, dict[str, Value]] = {}
    for name, value in study.best_params.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {})[key] = value
    with written_aside(folder / BEST) as aside:
        aside.write_text(yaml.safe_dump(nested, sort_keys=False), encoding="utf-8")


def _pruner(name: Pruner) -> "optuna.pruners.BasePruner":
    import optuna

    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=20)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4)
    return optuna.pruners.NopPruner()
