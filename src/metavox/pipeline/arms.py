"""What every arm of meta-training shares: data, perturbation, warm-up, budget, and the loop that trains one."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metavox.audio.perturb import Perturb, Perturbation, for_features
from metavox.params import Params
from metavox.pipeline.artifacts import CHECKPOINTS, clean_store, learnable, run_key
from metavox.pipeline.dev_episodes import DevEpisodes, dev_episodes
from metavox.pipeline.meta_arm import meta_arm
from metavox.pipeline.models import initial_model, start_folder
from metavox.recognisers.conformer import Network
from metavox.training.device import Compute, compute
from metavox.training.gan import Environments, load_generator
from metavox.training.joint import (
    CosineClasses,
    JointTask,
    Labelled,
    WordLoss,
    labelled,
)
from metavox.training.loop import Training, set_rate, step_if_finite
from metavox.training.meta import MetaTask

SECTIONS = ("features", "frontend", "encoder", "metatrain")

INPUTS = ("artifacts/validated/manifest.parquet", "artifacts/encoder/encoder.safetensors")


@dataclass
class ArmSetup:
    """What every arm shares."""

    params: Params
    root: Path
    data: Labelled
    perturb: Perturb
    key: str
    compute: Compute
    watch: Callable[[int, int], None] | None = (
        None  # called before each step, with the step and how many there are
    )

    def train(
        self, name: str, model: Network, task: JointTask | MetaTask, steps: int, rate: float
    ) -> pd.DataFrame:
        """`steps` of `task` from where `model` stands; the history with a column that names the arm."""
        groups = task.groups()
        optimizer = torch.optim.AdamW(groups, rate, weight_decay=0.02, fused=True)
        parameters = [parameter for group in groups for parameter in group["params"]]

        def update(step: int, random: torch.Generator) -> dict[str, float]:
            if self.watch:
                self.watch(step, steps)
            set_rate(optimizer, rate, step, steps, warmup=max(1, min(50, steps // 4)))
            loss, record = task(step, random)
            return (
                record if np.isfinite(step_if_finite(loss, optimizer, parameters)) else {"loss": float("nan")}
            )

        modules = {"model": model, "classes": task.classes}
        if isinstance(task, MetaTask):
            modules["own"] = task.meta_parameters
        return (
            Training(
                f"metatrain-{name}",
                modules,
                {"optimizer": optimizer},
                update,
                steps,
                self.params.seed,
                self.root / CHECKPOINTS,
                self.key,
                self.params.metatrain.checkpoint_every,
            )
            .run()
            .assign(arm=name)
        )


def begin(params: Params, root: Path) -> tuple[ArmSetup, Network, "DevEpisodes"]:
    """The data, a model that has learned nothing here yet, and what arms are trials by."""
    store = clean_store(root)
    dev = dev_episodes(store, params)
    train = learnable(store, "train")
    train = train.where(~train.rows["path"].isin(dev.paths))
    model = initial_model(params, root, train)
    perturb = perturbation(params, root)
    data = labelled(train, model.tokenizer)
    where = compute(params.metatrain.precision)
    return ArmSetup(params, root, data, perturb, training_key(params, root), where), model, dev


def training_key(params: Params, root: Path) -> str:
    """What all training here depends on."""
    start = start_folder(params)
    return run_key(
        __name__,
        params,
        SECTIONS,
        root,
        (*INPUTS, *_environment(params), *([str((start / "model.safetensors").absolute())] if start else [])),
    )


def warm_up(model: Network, setup: ArmSetup, name: str = "warmup") -> tuple[JointTask, pd.DataFrame]:
    """Joint training that all arms begin from: the task with its word classes, and the history."""
    params, chosen = setup.params, setup.params.metatrain
    task = JointTask(
        model,
        setup.data,
        _frames(params),
        chosen.utterance_share,
        params.seed,
        setup.perturb,
        ramp_steps=int(0.4 * chosen.warmup_steps),
        compute=setup.compute,
        words=word_loss(params),
    )
    return task, setup.train(name, model.train(), task, chosen.warmup_steps, chosen.learning_rate)


def word_loss(params: Params) -> WordLoss:
    chosen = params.metatrain
    longest = round(chosen.max_word_s / params.features.hop_s)
    return WordLoss(
        chosen.classifier_weight, chosen.contrastive_weight, chosen.recorded_oversampling, longest
    )


def perturbation(params: Params, root: Path) -> Perturb:
    """Random channels and, for a share of the clips, an environment that the GAN learned."""
    features, chosen = params.features, params.metatrain
    if chosen.environment_share == 0:
        return for_features(Perturbation(), features)
    generator = load_generator(root / chosen.environment, features)
    return for_features(Environments(generator, chosen.environment_share, Perturbation()), features)


def _environment(params: Params) -> tuple[str, ...]:
    """What of an environment a run depends on: where none is asked for, nothing."""
    chosen = params.metatrain
    used = chosen.environment_share > 0 or chosen.room == "generated"
    return (f"{chosen.environment}/generator.safetensors",) if used else ()


def for_inference(model: Network) -> Network:
    """The same model for use on a CPU, out of training."""
    return model.eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def arm_task(
    name: str, model: Network, classes: CosineClasses, setup: ArmSetup
) -> tuple[JointTask | MetaTask, int]:
    """What the arm learns from where the warm-up ended, and its steps: as many as the joint arm's budget pays for."""
    chosen, params = setup.params.metatrain, setup.params
    # A meta-learner keeps by joint training what its tasks are not of.
    of_words = name == "meta" and chosen.kind == "utterances"
    frames, share = _frames(params), chosen.utterance_share
    joint = JointTask(
        model,
        setup.data,
        int(frames * (1 - share)) if of_words else frames,
        0.0 if of_words else share,
        params.seed + 1,
        setup.perturb,
        classes=copy.deepcopy(classes),
        compute=setup.compute,
        words=word_loss(params),
    )
    if name == "joint":
        return joint, chosen.arm_steps
    return meta_arm(joint, params, setup.root, frames, kept=frames * ((1 - share) if of_words else share))


def _frames(params: Params) -> int:
    return int(params.metatrain.batch_s / params.features.hop_s)
