"""The measurements of `experiments.starts`: where they are kept, and the tables of them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.metrics.before_after import relative_error_reduction
from metavox.metrics.rates import Errors, word_errors

JOINT = "joint"
RESULTS, TABLE = "-results.jsonl", ".csv"  # appended to the name of the folder of starts


@dataclass(frozen=True)
class Measurement:
    """One arm after adaptation to `shots` recordings of a task by `steps` steps.

    `loss` is the mean per token of the query recordings, whose `references` and `hypotheses` are empty if they were not
    transcribed. `cpu_seconds` were needed to adapt.
    """

    arm: str
    seed: int
    split: str
    task: int
    name: str
    shots: int
    steps: int
    learning_rate: float
    loss: float
    references: tuple[str, ...] = ()
    hypotheses: tuple[str, ...] = ()
    cpu_seconds: float = 0.0

    @property
    def key(self) -> tuple[str, int, str, int, int, int, float, bool]:
        """What a measurement is of; it is not repeated."""
        return (
            self.arm,
            self.seed,
            self.split,
            self.task,
            self.shots,
            self.steps,
            self.learning_rate,
            bool(self.references),
        )

    @property
    def errors(self) -> Errors:
        return word_errors(self.references, self.hypotheses, ["en"] * len(self.references))


def read(folder: Path) -> list[Measurement]:
    """All measurements of the starts in `folder`; a last line that was cut off is left out."""
    out, file = [], results_file(folder)
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        for name in ("references", "hypotheses"):
            values[name] = tuple(values[name])
        out.append(Measurement(**values))
    return out


def results_file(folder: Path) -> Path:
    """Beside the folder of starts, so that DVC can track both."""
    return folder.with_name(folder.name + RESULTS)


def append(folder: Path, measurement: Measurement) -> None:
    with results_file(folder).open("a") as file:
        file.write(json.dumps(asdict(measurement), ensure_ascii=False) + "\n")


def chosen_rate(done: Iterable[Measurement], arm: str, steps: int) -> float:
    """The learning rate whose mean loss after `steps` steps is lowest on the development tasks that all rates finished.

    Raises UserError if there is none.
    """
    losses: dict[float, dict[tuple[int, int], float]] = {}
    for one in done:
        if (one.split, one.arm, one.steps) == ("dev", arm, steps):
            losses.setdefault(one.learning_rate, {})[one.task, one.seed] = one.loss
    common = set.intersection(*map(set, losses.values())) if losses else set()
    if not common:
        raise UserError(f"no development task of {arm}; run `python -m experiments choose-starts`")
    return min(losses, key=lambda rate: float(np.mean([losses[rate][task] for task in common])))


def table(folder: Path) -> pd.DataFrame:
    """A row per number of recordings and arm, over the test tasks that both the arm and joint training have finished.

    WER in %, the share of joint training's errors that an arm avoids (paired over recordings, all seeds of a recording
    drawn together), and the difference of the loss per token from joint's (paired over tasks), with 95% intervals.
    Writes a CSV beside the folder. Raises UserError without any measurement of joint training.
    """
    rows, done = [], [one for one in read(folder) if one.split == "test" and one.references]
    if not any(one.arm == JOINT for one in done):
        raise UserError(f"{folder}: no test task of {JOINT}; run `dvc repro experiments/dvc.yaml`")
    for shots in sorted({one.shots for one in done if one.shots}):
        own = [one for one in done if one.shots in (0, shots)]
        arms = {arm: _by_task(one for one in own if one.arm == arm) for arm in _ordered(own)}
        if JOINT not in arms:
            continue
        for arm, all_tasks in arms.items():
            common = sorted(set(all_tasks) & set(arms[JOINT]))
            if not common:
                continue
            tasks, paired = ({task: arms[name][task] for task in common} for name in (arm, JOINT))
            errors, joint = _errors(tasks), _errors(paired)
            rows.append(
                {
                    "recordings": shots,
                    "arm": arm,
                    "tasks": len(common),
                    "WER": str(errors.interval()),
                    "less error than joint": str(relative_error_reduction(joint, errors))
                    if arm != JOINT
                    else "",
                    "loss": f"{np.mean(_losses(tasks)):.3f}",
                    "loss above joint": _difference(_losses(tasks) - _losses(paired)) if arm != JOINT else "",
                    "steps": ", ".join(sorted({str(one.steps) for all_ in tasks.values() for one in all_})),
                    "learning rate": ", ".join(
                        sorted({f"{one.learning_rate:g}" for all_ in tasks.values() for one in all_})
                    ),
                }
            )
    out = pd.DataFrame(rows)
    with written_aside(folder.with_name(folder.name + TABLE)) as aside:
        out.to_csv(aside, index=False)
    return out


def curve(folder: Path, chosen_steps: int) -> pd.DataFrame:
    """A row per arm, a column per number of steps: the mean query loss of the tasks that all have finished.

    The learning rate of an arm is the one that `chosen_steps` steps chose.

    `steps to joint's best` is the smallest number of steps whose loss is at most joint training's lowest.
    """
    all_dev = [one for one in read(folder) if one.split == "dev"]
    rates = {arm: chosen_rate(all_dev, arm, chosen_steps) for arm in _ordered(all_dev)}
    done = [one for one in all_dev if one.learning_rate == rates[one.arm]]
    traced = {one.arm for one in done if one.steps != chosen_steps}
    done = [one for one in done if one.arm in traced]
    cells: dict[tuple[str, int], dict[tuple[int, int], float]] = {}
    for one in done:
        cells.setdefault((one.arm, one.steps), {})[one.task, one.seed] = one.loss
    arms, steps = _ordered(done), sorted({one.steps for one in done})
    common = set.intersection(*(set(value) for value in cells.values())) if cells else set()
    means = {key: float(np.mean([value[task] for task in common])) for key, value in cells.items()}
    best = min((mean for (arm, _), mean in means.items() if arm == JOINT), default=-np.inf)
    rows = []
    for arm in arms:
        own = {count: means[arm, count] for count in steps if (arm, count) in means}
        reached = [count for count, loss in own.items() if loss <= best]
        rows.append(
            {
                "arm": arm,
                **{f"{count} steps": f"{loss:.3f}" for count, loss in own.items()},
                "steps to joint's best": min(reached, default=None),
            }
        )
    return pd.DataFrame(rows)


def _ordered(done: Iterable[Measurement]) -> list[str]:
    return sorted({one.arm for one in done}, key=lambda arm: (arm != JOINT, arm))


def _by_task(done: Iterable[Measurement]) -> dict[int, list[Measurement]]:
    out: dict[int, list[Measurement]] = {}
    for one in done:
        out.setdefault(one.task, []).append(one)
    return out


def _errors(tasks: dict[int, list[Measurement]]) -> Errors:
    """Errors of each recording, averaged over seeds, since they are not independent between seeds."""
    per_task = [
        Errors(
            np.mean([one.errors.edits for one in seeds], axis=0),
            np.mean([one.errors.lengths for one in seeds], axis=0),
        )
        for seeds in tasks.values()
    ]
    return Errors(
        *(np.concatenate([getattr(one, name) for one in per_task]) for name in ("edits", "lengths"))
    )


def _losses(tasks: dict[int, list[Measurement]]) -> np.ndarray:
    return np.array([np.mean([one.loss for one in seeds]) for seeds in tasks.values()])


def _difference(values: np.ndarray) -> str:
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    return f"{values.mean():+.3f} ± {1.96 * values.std(ddof=1) / np.sqrt(len(values)):.3f}"
