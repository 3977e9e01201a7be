"""What all arms of meta-training share: data, perturbation, warm-up, budget and training loop."""

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
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.conformer import Network
from metavox.recognisers.registry import own_digest
from metavox.training.device import Compute, compute
from metavox.training.distributed import ALONE, Ranks
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

# Whisper's log-mels show noise down to 80 dB below the clip's peak, and a telephone leaves nothing above 4 kHz.
EMPTY_BAND = (4.0, 24.0)
SECTIONS = ("features", "frontend", "encoder", "metatrain")

INPUTS = ("artifacts/validated/manifest.parquet", "artifacts/encoder/encoder.safetensors")


@dataclass
class ArmSetup:
    """The data, perturbation and options that all arms share. `key` identifies the run for checkpoints."""

    params: Params
    root: Path
    data: Labelled
    perturb: Perturb
    key: str
    compute: Compute
    watch: Callable[[int, int], None] | None = None  # called before each step with (step, steps)

    def train(
        self, name: str, model: Network, task: JointTask | MetaTask, steps: int, rate: float
    ) -> pd.DataFrame:
        """Train `model` on `task` for `steps`; returns the history with the arm's name in the column `arm`."""
        groups = task.groups()
        optimizer = torch.optim.AdamW(groups, rate, weight_decay=0.02, fused=True)
        parameters = [parameter for group in groups for parameter in group["params"]]

        def update(step: int, random: torch.Generator) -> dict[str, float]:
            if self.watch:
                self.watch(step, steps)
            set_rate(optimizer, rate, step, steps, warmup=max(1, min(50, steps // 4)))
            loss, record = task(step, random)
            total = step_if_finite(loss, optimizer, parameters, ranks=self.compute.ranks)
            return record if np.isfinite(total) else {"loss": float("nan")}

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
                self.compute.ranks,
            )
            .run()
            .assign(arm=name)
        )


def set_up(params: Params, root: Path, ranks: Ranks = ALONE) -> tuple[ArmSetup, Network, "DevEpisodes"]:
    """The shared setup, the initial model, and the development episodes by which arms are compared."""
    store = clean_store(root)
    dev = dev_episodes(store, params)
    train = learnable(store, "train")
    train = train.where(~train.rows["path"].isin(dev.paths))
    model = initial_model(params, root, train)
    perturb = perturbation(params, root)
    data = labelled(train, model.tokenizer)
    device = compute(params.metatrain.precision, ranks)
    return ArmSetup(params, root, data, perturb, training_key(params, root), device), model, dev


def training_key(params: Params, root: Path) -> str:
    """The `run_key` of all training in this module."""
    start = start_folder(params)
    inputs = (
        *INPUTS,
        *_environment(params),
        *([str((start / "model.safetensors").absolute())] if start else []),
    )
    frozen = own_digest(find_base(params.base).folder) if params.encoder.kind == "whisper" else ""
    return run_key(__name__, params, SECTIONS, root, inputs) + frozen


def warm_up(model: Network, setup: ArmSetup, name: str = "warmup") -> tuple[JointTask, pd.DataFrame]:
    """The joint training that all arms start from; returns the task with its word classes, and the history."""
    params, config = setup.params, setup.params.metatrain
    task = JointTask(
        model,
        setup.data,
        _frames(params),
        config.utterance_share,
        params.seed,
        setup.perturb,
        ramp_steps=int(0.4 * config.warmup_steps),
        compute=setup.compute,
        words=word_loss(params),
    )
    return task, setup.train(name, model.train(), task, config.warmup_steps, config.learning_rate)


def word_loss(params: Params) -> WordLoss:
    config = params.metatrain
    max_frames = round(config.max_word_s / params.features.hop_s)
    return WordLoss(
        config.classifier_weight, config.contrastive_weight, config.recorded_oversampling, max_frames
    )


def perturbation(params: Params, root: Path) -> Perturb:
    """Random perturbation of training audio and, for a share of the clips, an environment from the GAN."""
    features, config = params.features, params.metatrain
    if config.environment_share == 0:
        recorded = Perturbation(bandlimit_nepers=EMPTY_BAND) if features.kind == "whisper" else Perturbation()
        return for_features(recorded, features)
    generator = load_generator(root / config.environment, features)
    return for_features(Environments(generator, config.environment_share, Perturbation()), features)


def _environment(params: Params) -> tuple[str, ...]:
    """The generator file that a run depends on, if it uses one."""
    config = params.metatrain
    used = config.environment_share > 0 or config.room == "generated"
    return (f"{config.environment}/generator.safetensors",) if used else ()


def for_inference(model: Network) -> Network:
    """The model on the CPU, in evaluation mode."""
    return model.eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def arm_task(
    name: str, model: Network, classes: CosineClasses, setup: ArmSetup
) -> tuple[JointTask | MetaTask, int]:
    """The arm's task after the warm-up, and the number of steps that the joint arm's budget allows it."""
    config, params = setup.params.metatrain, setup.params
    # Beside its tasks, a meta-learner goes on with joint training of the kind that its tasks lack.
    joint_words_only = name == "meta" and config.kind == "utterances"
    frames, share = _frames(params), config.utterance_share
    joint = JointTask(
        model,
        setup.data,
        int(frames * (1 - share)) if joint_words_only else frames,
        0.0 if joint_words_only else share,
        params.seed + 1,
        setup.perturb,
        classes=copy.deepcopy(classes),
        compute=setup.compute,
        words=word_loss(params),
    )
    if name == "joint":
        return joint, config.arm_steps
    return meta_arm(
        joint, params, setup.root, frames, kept=frames * ((1 - share) if joint_words_only else share)
    )


def _frames(params: Params) -> int:
    return int(params.metatrain.batch_s / params.features.hop_s)
