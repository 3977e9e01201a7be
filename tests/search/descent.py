"""A small real problem to search over, and a process that joins its study.

Usage: python descent.py FOLDER TRIALS BEHAVIOUR, where BEHAVIOUR is `waits`, `hangs` or empty.
"""

import signal
import sys
from pathlib import Path
from typing import Literal

import numpy as np

from metavox.params import Params
from metavox.search import Report, Search
from metavox.search.space import Range, Space

SPACE: Space = {"adapt.learning_rate": Range(0.001, 1.0, log=True), "adapt.steps": Range(5, 60)}


class Descent:
    """The loss of a line fitted by gradient descent: too low a rate does not converge, and too high a rate diverges."""

    direction: Literal["maximize", "minimize"] = "minimize"
    about = "a line"

    def __init__(self, behaviour: str = "") -> None:
        self.behaviour = behaviour

    def __call__(self, params: Params, report: Report) -> float:
        random = np.random.default_rng(params.seed)
        x = np.column_stack([np.ones(50), random.normal(size=50)])
        y = x @ (2.0, -3.0) + random.normal(0, 0.1, 50)
        weights = np.zeros(2)
        if self.behaviour:
            print("trial", flush=True)
            self._pause()
        for step in range(params.adapt.steps):
            weights -= params.adapt.learning_rate * 2 * x.T @ (x @ weights - y) / 50
            if step in (params.adapt.steps // 3, params.adapt.steps // 2):
                report(100 * step // params.adapt.steps, self._loss(x, y, weights))
        return self._loss(x, y, weights)

    def _pause(self) -> None:
        behaviour, self.behaviour = self.behaviour, ""
        if behaviour == "waits":  # until standard input is closed
            sys.stdin.readline()
        elif behaviour == "hangs":
            signal.pause()

    @staticmethod
    def _loss(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        return float(np.mean((x @ weights - y) ** 2))


def search(folder: Path, trials: int, behaviour: str = "", **more: object) -> Search:
    return Search(Descent(behaviour), SPACE, Params(), folder, trials, 0, **more)  # type: ignore[arg-type]


if __name__ == "__main__":
    search(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]).run()
