"""Trains small networks on prepared speech, alone or in the processes that torchrun starts; test_distributed compares.

torchrun --nproc-per-node 2 -m tests.training.ranks FOLDER
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from metavox.audio.perturb import Perturbation
from metavox.cli.main import stage
from metavox.config import EncoderConfig, FeatureConfig
from metavox.dataset.episodes import EpisodeShape
from metavox.dataset.store import Store
from metavox.params import Params
from metavox.pipeline.arms import ArmSetup
from metavox.pipeline.pretraining import run_pretraining
from metavox.recognisers.conformer import ModelConfig, Network
from metavox.training.device import Compute, Module
from metavox.training.distributed import ALONE, Ranks, launched
from metavox.training.joint import JointTask, WordLoss, labelled
from metavox.training.meta import MetaTask, Words, WordTasks, learner
from metavox.training.selfsupervised import CHANNELS, Masking, PretrainTask, make_objective, store_batches

STEPS, CHECKPOINT, KILLED = 6, 2, 3
Watch = Callable[[int, int], None]
OBJECTIVES = ("joint", "masked", "apc", "bestrq", "meta")
PARAMS = Params.model_validate(
    {
        "pretrain": {"steps": STEPS, "checkpoint_every": CHECKPOINT},
        "metatrain": {"checkpoint_every": CHECKPOINT},
    }
)


@dataclass(frozen=True)
class Double(Compute):
    """Computes in double precision, so that the order of sums cannot hide an error."""

    def place(self, module: Module) -> Module:
        return super().place(module.double())

    def move(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return super().move(*(t.double() if t.is_floating_point() else t for t in tensors))


def train(
    objective: str, store: Store, root: Path, ranks: Ranks = ALONE, watch: Watch | None = None
) -> tuple[pd.DataFrame, dict[str, torch.Tensor]]:
    """The history of one objective and its final state, with checkpoints below `root`. Unless the objective is
    self-supervised, `watch` is called before each step."""
    torch.manual_seed(0)
    encoder = EncoderConfig(channels=4, dim=16, layers=1, heads=2, kernel=5, embedding=24)
    model = Network(ModelConfig(FeatureConfig(mels=store.config.mels), encoder)).train()
    compute = Double(ranks=ranks)
    if objective in ("masked", "apc", "bestrq"):
        module = make_objective(objective, model.encoder, Masking())  # type: ignore[arg-type]
        speech = store_batches(store, 500, seed=1)
        history = run_pretraining(PARAMS, PretrainTask(module, speech, compute, CHANNELS), "run", root, "key")
        return history, module.state_dict()

    data = labelled(store, model.tokenizer)
    setup = ArmSetup(PARAMS, root, data, Perturbation(), "key", compute, watch)
    # Beside the tasks, a batch has one utterance, which two processes cannot share.
    share = 0.4 if objective == "joint" else 0.04
    joint = JointTask(
        model,
        data,
        1200,
        share,
        1,
        Perturbation(),
        compute=compute,
        words=WordLoss(0.3, contrastive_weight=1.0),
    )
    task: JointTask | MetaTask = joint
    if objective == "meta":
        model.eval()
        tasks = WordTasks(data, EpisodeShape(3, 1, 2), Perturbation(), 1)
        task = MetaTask(joint, learner("fomaml", Words(model), 2, 0.05), tasks, tasks=3)
    history = setup.train("run", model, task, STEPS, 0.01)
    state = nn.ModuleDict({"model": model, "classes": task.classes}).state_dict()
    return history, state


def record_writes(folder: Path) -> list[str]:
    """The names of all files and folders below `folder` that Python makes or changes from now on."""
    written: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writes = event in ("os.mkdir", "os.rename", "os.remove") or (
            event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        )
        if writes and str(arguments[0]).startswith(str(folder)):
            written.append(str(arguments[0]))

    sys.addaudithook(hook)
    return written


def main() -> None:
    """Train all objectives, run both stages, and train once more, where process 1 dies after the first checkpoint."""
    folder = Path(sys.argv[1])
    project, store, written = folder / "project", Store(folder / "store"), record_writes(folder)
    with launched() as ranks:
        results = {name: train(name, store, folder / name, ranks) for name in OBJECTIVES}
    for name in ("pretrain", "metatrain"):
        stage(name, project, project / "params.yaml")
    (folder / f"writes-{ranks.rank}.json").write_text(json.dumps(written))
    for name, (history, state) in results.items():
        out = folder / name / f"process-{ranks.rank}"
        history.to_parquet(out.with_suffix(".parquet"))
        save_file({key: value.contiguous() for key, value in state.items()}, out.with_suffix(".safetensors"))

    def die(step: int, steps: int) -> None:
        if step == KILLED and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train("joint", store, folder / "killed", ranks, die)


if __name__ == "__main__":
    main()
