"""Two processes of torchrun learn what one process learns from the same global batches."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_pipeline import PARAMS, project

from metavox.cli.main import stage
from metavox.dataset.store import Store
from metavox.dataset.stream import Stream
from metavox.errors import UserError
from metavox.stages.pretrain import speech
from metavox.training.distributed import Ranks
from tests.dataset.shards_at_a_url import write_corpus
from tests.training.ranks import CHECKPOINT, KILLED, OBJECTIVES, STEPS, train

__all__ = ["project"]

ROOT = Path(__file__).parents[2]
# In double precision the order of sums is all that differs. `bestrq` takes its cross-entropy in single precision.
TOLERANCE = {"bestrq": 2e-6}


def torchrun(folder: Path) -> str:
    """The output of two processes, of which the second kills itself at last."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "--monitor-interval", "0.1", "-m", "tests.training.ranks", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}/src"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert "exitcode  : -9" in done.stdout, done.stdout
    assert done.returncode == 1
    return done.stdout


@pytest.fixture
def prepared(project: Path, make_store: Callable[..., Store]) -> Path:
    """A folder with a store and a project with its parameters."""
    folder = project.parent / "prepared"
    shutil.copytree(make_store(seed=1).folder, folder / "store")
    small = {
        "base": "conformer",
        "pretrain": PARAMS.pretrain.model_copy(update={"steps": 6, "batch_s": 5.0, "precision": "float32"}),
        "metatrain": PARAMS.metatrain.model_copy(
            update={
                "contrastive_weight": 1.0,
                "learning_rate": 1e-5,  # so that rounding in single precision does not grow with the steps
                "cohort_size": 20,
                "environment_share": 0.0,
                "precision": "float32",
            }
        ),
    }
    params = PARAMS.model_copy(update=small).model_dump(mode="json", by_alias=True)
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copytree(project, folder / "project")
    return folder


def test_two_processes_learn_what_one_learns(prepared: Path, tmp_path: Path) -> None:
    alone, store = tmp_path / "alone", Store(prepared / "store")
    shutil.copytree(prepared / "project", alone / "project")
    expected = {name: train(name, store, alone / name) for name in OBJECTIVES}
    with pytest.raises(KeyboardInterrupt):  # two processes go on with `joint`
        train("joint", store, prepared / "joint", watch=interrupt)
    output = torchrun(prepared)
    for name, (history, state) in expected.items():
        check_same(name, history, state, prepared / name)
    assert output.count(f"resuming from the checkpoint at step {CHECKPOINT} of") == 1
    for name in ("pretrain", "metatrain"):
        stage(name, alone / "project", alone / "project/params.yaml")
        ours, theirs = (folder / f"project/artifacts/plots/{name}.csv" for folder in (prepared, alone))
        pd.testing.assert_frame_equal(pd.read_csv(ours), pd.read_csv(theirs), rtol=1e-3)

    # Only the first process prints and writes.
    assert output.count("accuracy of linear probes") == 1
    assert json.loads((prepared / "writes-1.json").read_text()) == []
    assert (prepared / "project/artifacts/recogniser/arms/meta").is_dir()

    # One process goes on where two were killed.
    assert not (prepared / "killed/.metavox/checkpoints/metatrain-run.partial").exists()
    steps: list[int] = []
    history, state = train("joint", store, prepared / "killed", watch=lambda step, _: steps.append(step))
    assert steps == list(range(CHECKPOINT, STEPS))
    for name, value in state.items():
        torch.testing.assert_close(value, expected["joint"][1][name], rtol=0, atol=1e-8)


def interrupt(step: int, steps: int) -> None:
    if step == KILLED:
        raise KeyboardInterrupt


def check_same(objective: str, history: pd.DataFrame, state: dict[str, torch.Tensor], folder: Path) -> None:
    tolerance = TOLERANCE.get(objective, 1e-8)
    for rank in range(2):
        ours = pd.read_parquet(folder / f"process-{rank}.parquet")
        pd.testing.assert_frame_equal(ours, history, check_exact=False, rtol=0, atol=tolerance)
        for name, value in load_file(folder / f"process-{rank}.safetensors").items():
            torch.testing.assert_close(value, state[name], rtol=0, atol=tolerance, msg=f"{objective}: {name}")
    assert np.unique(history["loss"]).size > 2


def test_a_stage_that_runs_in_one_process_refuses_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="stage augment: started in 2 processes, but it runs in one"):
        stage("augment", Path(), None)


def test_processes_share_the_shards_of_a_stream(make_store: Callable[..., Store], tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    params = PARAMS.model_copy(
        update={
            "pretrain": PARAMS.pretrain.model_copy(
                update={"stream": str(tmp_path / "corpus"), "window_shards": 9}
            )
        }
    )
    shards = []
    for rank in range(2):
        with speech(params, make_store(seed=rank), 500, Ranks(rank, 2)) as train:
            assert isinstance(train.batches, Stream)
            shards.append(set(train.batches.at(0).shards))
            random = torch.Generator().manual_seed(0)
            assert train.ranks.share(7) == slice(0, 7)
            assert (train.ranks.random(random).initial_seed() == 0) == (rank == 0)
    assert not shards[0] & shards[1]
    assert len(shards[0] | shards[1]) == 5
