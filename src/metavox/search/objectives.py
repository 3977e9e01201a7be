"""Objectives of `metavox search`, measured on development speakers; test speakers are never used.

`words` trains an arm after the shared warm-up and measures it on few-shot episodes. `speakers` adapts the trained
recogniser to each development speaker and measures the character error rate.
"""

import copy
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.metrics.rates import Errors
from metavox.metrics.speakers import SpeakerTask, evaluate_speaker, pooled, speaker_tasks
from metavox.params import MetaTrain, Params
from metavox.pipeline.arms import ArmSetup, arm_task, for_inference, set_up, training_key, warm_up
from metavox.pipeline.artifacts import CHECKPOINTS, clean_store, recordings, trained_session
from metavox.pipeline.dev_episodes import DevEpisodes
from metavox.pipeline.held_out import fine_tune_config
from metavox.recognisers.conformer import Network, digest
from metavox.recognisers.recogniser import Recogniser
from metavox.search import Report
from metavox.search.locks import lock
from metavox.search.space import Choice, Range, Space, with_values
from metavox.teaching import TeachConfig, TeachingSet, teach
from metavox.training.joint import JointTask

REPORTS = 5  # intermediate values are reported at fifths of the budget
# Parameters that the warm-up does not depend on; a change of any other gives a trial its own warm-up.
ARM_PARAMETERS = {
    "arm_steps",
    "arm_learning_rate",
    "learner",
    "tasks",
    "kind",
    "way",
    "shot",
    "queries",
    "unknown",
    "background",
    "pairing",
    "mix_languages",
    "task_by",
    "conditions_per_task",
    "room",
    "reversed_words",
    "curriculum",
    "statistics",
    "inner_steps",
    "inner_learning_rate",
    "checkpoint_every",
}
WORDS: Space = {
    "metatrain.learner": Choice(("fomaml", "reptile", "protonet")),
    "metatrain.inner_learning_rate": Range(0.005, 0.5, log=True),
    "metatrain.inner_steps": Range(1, 4),
    "metatrain.arm_learning_rate": Range(0.01, 1.0, log=True),
}
SPEAKERS: Space = {
    "adapt.learning_rate": Range(0.0003, 0.03, log=True),
    "adapt.steps": Range(5, 80, log=True),
}


@dataclass(frozen=True)
class WordObjective:
    """Accuracy of an arm on the development episodes by which `metatrain` chooses between joint and meta."""

    params: Params
    root: Path
    arm: Literal["joint", "meta"] = "meta"
    direction: Literal["maximize", "minimize"] = "maximize"

    @property
    def about(self) -> str:
        return f"words, {self.arm}, {training_key(self.params, self.root)}"

    def __call__(self, params: Params, report: Report) -> float:
        setup, model, dev = set_up(params, self.root)
        warm = _warm_up(model, setup)
        task, steps = arm_task(self.arm, model, warm.classes, setup)
        model.train(self.arm == "joint")
        percent = {round(steps * i / REPORTS): 100 * i // REPORTS for i in range(1, REPORTS)}

        def watch(step: int, _: int) -> None:
            if step in percent:
                report(percent[step], _score(model, dev))

        config = params.metatrain
        name = f"search-{self.arm}-{setup.key[:16]}"  # a retry of a killed trial resumes from its checkpoint
        rate = config.learning_rate * config.arm_learning_rate
        replace(setup, watch=watch).train(name, model, task, steps, rate)
        (self.root / CHECKPOINTS / f"metatrain-{name}.safetensors").unlink(missing_ok=True)
        return _score(model, dev)


def _warm_up(model: Network, setup: ArmSetup) -> JointTask:
    """The warm-up that trials share: the first one trains it, and the others load it."""
    defaults = {f"metatrain.{name}": MetaTrain.model_fields[name].default for name in ARM_PARAMETERS}
    shared = with_values(setup.params, defaults)
    key = training_key(shared, setup.root)
    name = f"search-warmup-{key[:16]}"
    folder = setup.root / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / f"{name}.lock", wait=True):
        task, _ = warm_up(model, replace(setup, key=key), name)
    return task


def _score(model: Network, dev: DevEpisodes) -> float:
    return dev.score(for_inference(copy.deepcopy(model))).mean


@dataclass(frozen=True)
class SpeakerObjective:
    """Character error rate on development speakers' free speech after adaptation to each, a share of the characters."""

    params: Params
    root: Path
    direction: Literal["maximize", "minimize"] = "minimize"

    @property
    def about(self) -> str:
        manifest = (self.root / "artifacts/validated/manifest.parquet").read_bytes()
        rows = hashlib.sha256(manifest).hexdigest()
        return f"speakers, {digest(self.root / 'artifacts/recogniser')}, {rows}, {self.params.seed}"

    def __call__(self, params: Params, report: Report) -> float:
        session = trained_session(self.root)
        store, tasks = dev_tasks(clean_store(self.root), session.recogniser, params)
        config = TeachConfig(
            "utterances", utterances=fine_tune_config(params.adapt, params.seed), guards=None
        )
        errors: list[Errors] = []
        for done, task in enumerate(tasks, 1):
            audio = recordings(store, task.support, session.recogniser, self.root)
            support = TeachingSet(audio, store.rows.loc[task.support, "text"].tolist())
            adapted = session.using([teach(session, support, config).delta]).recogniser
            query = recordings(store, task.query, adapted, self.root)
            errors.append(
                evaluate_speaker(task, store.rows, query, {"after": adapted}).errors["cer", "after"]
            )
            if done < len(tasks):
                report(100 * done // len(tasks), pooled(errors).rate)
        return pooled(errors).rate


def dev_tasks(store: Store, recogniser: Recogniser, params: Params) -> tuple[Store, list[SpeakerTask]]:
    """The development rows and one task per speaker. Raises UserError when no speaker has enough recordings."""
    dev = store.where((store.rows["split"] == "dev") & (store.rows["frames"] > 0))
    config = params.adapt
    tasks = speaker_tasks(
        dev.rows,
        recogniser,
        config.shots,
        params.evaluate.utterances,
        config.max_speakers,
        params.seed,
    )
    if not tasks:
        raise UserError(
            f"search speakers: no development speaker has {config.shots} + 10 recordings of different texts; add "
            "recordings, or lower adapt.shots"
        )
    return dev, tasks
