"""Experiment: meta-learned starts of adapters of a foundation model, on tasks that need adapting.

    train    -> the start of one learner with one seed, all on the same tasks and number of recordings
    choose   -> for each arm, how to fine-tune, by the loss of development tasks
    evaluate -> transcripts of test tasks after adaptation to 1, 5, 20 or 50 recordings
    table    -> word error rates, and errors relative to the jointly trained start, with intervals

All results are kept in one folder and resumed from there. `experiments/dvc.yaml` runs these commands.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.starts_results import JOINT, Measurement, append, chosen_rate, read
from metavox import threads
from metavox.adaptation.adverse_tasks import AdverseTasks, Environment, TaskSpec
from metavox.adaptation.estimate import BATCH
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.adaptation.meta_start import learn_start
from metavox.adaptation.start_learners import StartConfig
from metavox.audio.conditions import Split
from metavox.errors import UserError
from metavox.progress import track
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import Delta, load_delta, save_delta
from metavox.recognisers.recogniser import DecodeOptions, Recogniser
from metavox.training.gan import SampleEnvironments, load_generator

FOLDER = Path("artifacts/ablation/starts")
ZERO, ALL, PROMPT, BASE = "zero", "all weights", "prompt", "unadapted"
RECIPE = "zero, base's recipe"  # as adaptation is by default: several times as many steps
LEARNERS = (JOINT, "fomaml", "metasgd", "reptile", "maml", "anil")
MEASURE = StartConfig(
    steps=60, shots=5, inner_steps=2, inner_learning_rate=3e-3, learning_rate=2e-3, perturb=False
)
ARMS: dict[str, StartConfig] = {
    **{name: replace(MEASURE, learner=name) for name in LEARNERS[:-1]},  # type: ignore[arg-type]
    "anil": replace(MEASURE, learner="fomaml", moving="decoder"),
}
TASKS = 80  # training tasks
TASK_SEEDS: dict[Split, int] = {"train": 0, "dev": 1, "test": 2}
QUERIES = 8  # recordings of a task that are transcribed after adaptation
SHOTS = 5  # with which development tasks choose
RATES = {ALL: (1e-5, 1e-4)}  # learning rates to choose among
LORA_RATES = (1e-3, 3e-3)
# Of fine-tuning on up to 5 recordings; as many times more for more recordings as the base's recipes have.
STEPS = 5
CURVE_STEPS = (1, 2, 5, 10, 20)


def train(root: Path, folder: Path, base_name: str, arms: Sequence[str], seed: int, steps: int) -> None:
    """Learn the starts of some arms one after the other; each is written to `folder`/ARM-SEED.

    Raises UserError for an unknown arm.
    """
    for name in arms:
        if name not in ARMS:
            raise UserError(f"arm {name}: no such learner; expected one of {', '.join(ARMS)}")
    base = load(base_name)
    tasks = AdverseTasks(
        root / "data/manifest.csv", "train", base.spec.sample_rate_hz, learned_environments(root)
    )
    specs = tasks.plan(TASKS, 2 * MEASURE.shots, TASK_SEEDS["train"])
    rendered = [tasks.render(spec) for spec in track(specs, "rendering tasks", unit="tasks")]
    key = f"{base.spec.digest} {specs} {bool(tasks.environment)}"
    for name in arms:
        config = replace(ARMS[name], seed=seed, steps=steps)
        began = time.process_time()
        start = learn_start(base, rendered, config, folder / f"{name}-{seed}-checkpoints", key)
        about = {"arm": name, "seed": seed, "steps": steps, "rates": dict(start.rates)}
        about["cpu_seconds"] = round(time.process_time() - began, 1)
        save_delta(Delta(base.spec.digest, lora=start.lora, about=about), folder / f"{name}-{seed}")


@dataclass(frozen=True)
class Judge:
    """Adapts arms to tasks of a split and appends each measurement to the results in `folder`."""

    root: Path
    folder: Path
    base: Recogniser
    split: Split

    @cached_property
    def tasks(self) -> AdverseTasks:
        return AdverseTasks(self.root / "data/manifest.csv", self.split, self.base.spec.sample_rate_hz)

    def rendered(self, index: int, shots: int) -> tuple[TaskSpec, Recordings, Recordings]:
        """Task `index`, the recordings to adapt to, and the queries, which do not depend on `shots`."""
        whole = self.tasks.plan(index + 1, QUERIES + shots, TASK_SEEDS[self.split])[index]
        recordings = self.tasks.render(whole)
        return (
            whole,
            recordings.subset(range(QUERIES, len(recordings))),
            recordings.subset(range(min(QUERIES, len(recordings)))),
        )

    def measure(
        self,
        arm: str,
        seed: int,
        task: tuple[int, TaskSpec, Recordings, Recordings],
        shots: int,
        steps: int,
        rate: float,
        transcribe: bool,
        done: set[object],
    ) -> None:
        """Measure one arm on one task, unless that is among those `done`."""
        index, spec, support, query = task
        adapts = arm not in (BASE, PROMPT)
        empty = Measurement(
            arm,
            seed,
            self.split,
            index,
            spec.name,
            0 if arm == BASE else shots,
            steps if adapts else 0,
            rate if adapts else 0.0,
            0.0,
            tuple(query.texts) if transcribe else (),
        )
        if empty.key in done:
            return
        began = time.process_time()
        recogniser = self.base
        if adapts:
            recogniser = self.base.using([self.adapted(arm, seed, support, steps, rate)])
        seconds = round(time.process_time() - began, 1)
        options = DecodeOptions(prompt=" ".join(support.texts) if arm == PROMPT else "")
        texts = [one.text for one in recogniser.transcribe(query.audio, options)] if transcribe else []
        loss = round(loss_of(recogniser, query), 5)
        measured = replace(empty, loss=loss, hypotheses=tuple(texts), cpu_seconds=seconds)
        append(self.folder, measured)
        done.add(measured.key)

    def adapted(self, arm: str, seed: int, support: Recordings, steps: int, rate: float) -> Delta:
        config = FineTuneConfig(
            steps=steps, learning_rate=rate, seed=seed, preset="all" if arm == ALL else "lora"
        )
        if arm not in (ZERO, RECIPE, ALL):
            start = load_delta(self.folder / f"{arm}-{seed}")
            relative = start.about["rates"]
            config = replace(
                config, start=start.lora, rates={name: rate * factor for name, factor in relative.items()}
            )
        return fine_tune(self.base, support, config)


def loss_of(recogniser: Recogniser, recordings: Recordings) -> float:
    """The mean loss per token, over batches weighted by their characters."""
    import torch

    losses, weights = [], []
    with torch.inference_mode():
        for first in range(0, len(recordings), BATCH):
            batch = recordings.subset(range(first, min(first + BATCH, len(recordings))))
            losses.append(float(recogniser.loss(batch.audio, batch.texts)))
            weights.append(sum(map(len, batch.texts)))
    return float(np.average(losses, weights=weights))


def learned_arms(folder: Path) -> list[tuple[str, int]]:
    """The (learner, seed) of all starts in the folder, joint training first."""
    found = [file.parent.name.rpartition("-") for file in folder.glob("*/delta.json")]
    return sorted(((name, int(seed)) for name, _, seed in found), key=lambda one: (one[0] != JOINT, one))


def choose(root: Path, folder: Path, base_name: str, tasks: int, only: Sequence[str] = ()) -> None:
    """Measure the query loss of development tasks with each learning rate of each arm, or of `only` some."""
    judge = Judge(root, folder, load(base_name), "dev")
    done: set[object] = {one.key for one in read(folder)}
    for index in track(range(tasks), "development tasks", unit="tasks"):
        task = (index, *judge.rendered(index, SHOTS))
        for arm, seed in [(ZERO, 1), *learned_arms(folder), (ALL, 1)]:
            if only and arm not in only:
                continue
            for rate in RATES.get(arm, LORA_RATES):
                judge.measure(arm, seed, task, SHOTS, STEPS, rate, False, done)


def trace(root: Path, folder: Path, base_name: str, tasks: int) -> None:
    """Measure the query loss of development tasks after other numbers of steps, at each arm's chosen rate."""
    judge = Judge(root, folder, load(base_name), "dev")
    done: set[object] = {one.key for one in read(folder)}
    for index in track(range(tasks), "development tasks", unit="tasks"):
        task = (index, *judge.rendered(index, SHOTS))
        for arm, seed in [(ZERO, 1), *learned_arms(folder)]:
            for steps in CURVE_STEPS:
                judge.measure(
                    arm, seed, task, SHOTS, steps, chosen_rate(read(folder), arm, STEPS), False, done
                )


def evaluate(
    root: Path, folder: Path, base_name: str, shots: int, tasks: int, only: Sequence[str] = ()
) -> None:
    """Transcribe the queries of test tasks with every arm, or `only` some, at the rates that development tasks chose."""
    judge = Judge(root, folder, load(base_name), "test")
    done: set[object] = {one.key for one in read(folder)}
    recipe = judge.base.recipes(shots)[0]
    steps = round(STEPS * recipe.steps / judge.base.recipes(SHOTS)[0].steps)
    for index in track(range(tasks), f"test tasks, {shots} recordings", unit="tasks"):
        task = (index, *judge.rendered(index, shots))
        if len(task[2]) < shots:
            continue
        for arm, seed in [*learned_arms(folder), *((name, 1) for name in (ZERO, ALL, RECIPE, PROMPT, BASE))]:
            if only and arm not in only:
                continue
            count, rate = steps, 0.0
            if arm == RECIPE:
                count, rate = recipe.steps, recipe.learning_rate
            elif arm not in (PROMPT, BASE):
                rate = chosen_rate(read(folder), arm, STEPS)
            judge.measure(arm, seed, task, shots, count, rate, True, done)


def load(base_name: str) -> Recogniser:
    threads.limit("foundation model")
    return find_base(base_name).load()


def learned_environments(root: Path) -> Environment | None:
    """The generator of the project's environments, if it has run."""
    folder = root / "artifacts/environments"
    if not (folder / "generator.safetensors").is_file():
        return None
    return SampleEnvironments(load_generator(folder), share=1.0)
