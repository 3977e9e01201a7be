"""search: what parameters are worth on development speakers; an experiment beside the pipeline, as `ablate` is.

`words` trains an arm from the shared warm-up and asks it words of development speakers; `speakers` adapts the trained
recogniser to development speakers and counts the characters that it then gets wrong. Test speakers are never looked at.
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
from metavox.pipeline.arms import ArmSetup, arm_task, begin, for_inference, training_key, warm_up
from metavox.pipeline.artifacts import CHECKPOINTS, clean_store, recordings, trained_session
from metavox.pipeline.dev_episodes import DevEpisodes
from metavox.pipeline.held_out import fine_tuning
from metavox.recognisers.conformer import Network, digest
from metavox.recognisers.recogniser import Recogniser
from metavox.search import Report
from metavox.search.locks import held
from metavox.search.space import Choice, Range, Space, with_values
from metavox.teaching import TeachConfig, TeachingSet, teach
from metavox.training.joint import JointTask

REPORTS = 5  # values on the way
# What the warm-up does not depend on; anything else makes a trial warm up for itself.
OF_ARMS = {
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
class Words:
    """Accuracy of an arm, joint or meta, on the development episodes by which `metatrain` chooses between them."""

    params: Params
    root: Path
    arm: Literal["joint", "meta"] = "meta"
    direction: Literal["maximize", "minimize"] = "maximize"

    @property
    def about(self) -> str:
        return f"words, {self.arm}, {training_key(self.params, self.root)}"

    def __call__(self, params: Params, report: Report) -> float:
        setup, model, dev = begin(params, self.root)
        warm = _warmed(model, setup)
        task, steps = arm_task(self.arm, model, warm.classes, setup)
        model.train(self.arm == "joint")
        marks = {round(steps * part / REPORTS): 100 * part // REPORTS for part in range(1, REPORTS)}

        def watch(step: int, _: int) -> None:
            if step in marks:
                report(marks[step], _score(model, dev))

        chosen = params.metatrain
        name = f"search-{self.arm}-{setup.key[:16]}"  # a killed trial that is tried again goes on from where it was
        rate = chosen.learning_rate * chosen.arm_learning_rate
        replace(setup, watch=watch).train(name, model, task, steps, rate)
        (self.root / CHECKPOINTS / f"metatrain-{name}.safetensors").unlink(missing_ok=True)
        return _score(model, dev)


def _warmed(model: Network, setup: ArmSetup) -> JointTask:
    """The warm-up, trained by whichever trial comes first and read by the others."""
    unset = {f"metatrain.{name}": MetaTrain.model_fields[name].default for name in OF_ARMS}
    shared = with_values(setup.params, unset)
    key = training_key(shared, setup.root)
    name = f"search-warmup-{key[:16]}"
    folder = setup.root / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / f"{name}.lock", wait=True):
        task, _ = warm_up(model, replace(setup, key=key), name)
    return task


def _score(model: Network, dev: DevEpisodes) -> float:
    return dev.score(for_inference(copy.deepcopy(model))).mean


@dataclass(frozen=True)
class Speakers:
    """Characters wrong of development speakers' free speech, in parts, after the trained recogniser adapted to each."""

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
        store, tasks = development(clean_store(self.root), session.recogniser, params)
        config = TeachConfig("utterances", utterances=fine_tuning(params.adapt, params.seed), guards=None)
        errors: list[Errors] = []
        for number, task in enumerate(tasks, 1):
            audio = recordings(store, task.support, session.recogniser, self.root)
            said = TeachingSet(audio, store.rows.loc[task.support, "text"].tolist())
            adapted = session.using([teach(session, said, config).delta]).recogniser
            query = recordings(store, task.query, adapted, self.root)
            errors.append(
                evaluate_speaker(task, store.rows, query, {"after": adapted}).errors["cer", "after"]
            )
            if number < len(tasks):
                report(100 * number // len(tasks), pooled(errors).rate)
        return pooled(errors).rate


def development(store: Store, recogniser: Recogniser, params: Params) -> tuple[Store, list[SpeakerTask]]:
    """Development rows and their speakers' tasks. Raises UserError when no speaker has enough transcribed recordings."""
    dev = store.where((store.rows["split"] == "dev") & (store.rows["frames"] > 0))
    chosen = params.adapt
    tasks = speaker_tasks(
        dev.rows,
        recogniser,
        chosen.shots,
        params.evaluate.utterances,
        chosen.max_speakers,
        params.seed,
    )
    if not tasks:
        raise UserError(
            f"search speakers: no development speaker has {chosen.shots} + 10 recordings of different texts; expected at least "
            "one, or a smaller adapt.shots"
        )
    return dev, tasks
