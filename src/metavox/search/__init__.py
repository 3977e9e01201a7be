"""Search over parameters with Optuna (Akiba et al. 2019), in a study that several processes share.

Each process that runs the same command joins the study in its folder (`metavox.search.study`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd

from metavox.errors import UserError
from metavox.params import Params
from metavox.search.space import Space, with_values
from metavox.search.study import Asked, Direction, Pruner, StudySpec, checked, open_study

Report = Callable[[int, float], None]


class Objective(Protocol):
    """The value of parameters, measured on development speakers and never on test speakers.

    `report(step, value)` takes intermediate values by percent of the budget, and raises when the trial is to be pruned.
    `about` identifies everything else that the value depends on; all trials of a study share it.
    """

    @property
    def direction(self) -> Direction: ...

    @property
    def about(self) -> str: ...

    def __call__(self, params: Params, report: Report) -> float: ...


@dataclass(frozen=True)
class Search:
    """A search that ends when the study has `trials` trials with a result, from all processes together."""

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

        spec = StudySpec(self.space, self.objective.direction, self.objective.about, self.pruner)
        with open_study(self.folder, spec, self.seed) as study:
            progress(study.ended)
            while asked := study.ask(self.trials):
                asked.trial.set_user_attr("seed", self.params.seed)
                try:
                    study.tell(asked, self._value(asked))
                except optuna.TrialPruned:
                    study.tell_pruned(asked)
                except UserError as error:  # these parameters cannot be used
                    study.tell_failed(asked, str(error))
                    if not study.succeeded:
                        raise
                progress(study.ended)
            return study.write()

    def _value(self, asked: Asked) -> float:
        import optuna

        def report(step: int, value: float) -> None:
            asked.trial.report(value, step)
            if asked.trial.should_prune():
                raise optuna.TrialPruned

        value = self.objective(with_values(self.params, asked.values), report)
        return checked(value, asked.values)
