"""pretrain learns from the shards of a web server, and resumes exactly after it is killed."""

import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.params import Params, load_params
from metavox.stages.pretrain import run
from metavox.training.device import Precision
from metavox.training.selfsupervised import Objective
from tests.dataset.shards_at_a_url import served, write_corpus

STEPS = 14


class KilledAt(io.StringIO):
    """Standard output that kills this process without warning when `text` is printed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def write(self, text: str, /) -> int:
        if self._text in text:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(text)


def run_until(text: str, threads: int, params: Params, root: Path) -> None:
    torch.set_num_threads(threads)  # sums depend on the number of threads
    with redirect_stdout(KilledAt(text)):
        run(params, root)


def exit_code_when_killed_at(text: str, params: Params, root: Path) -> int | None:
    """Run the stage in another process, forked from a clean one that imports the package once for all tests."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["metavox.stages.pretrain"])
    process = context.Process(target=run_until, args=(text, torch.get_num_threads(), params, root))
    process.start()
    process.join()
    return process.exitcode


def project(
    root: Path, store: Store, stream: str, objective: Objective = "masked", precision: Precision = "float32"
) -> Params:
    """A project whose prepared speech is the store's, the first rows of it for development."""
    shutil.copytree(store.folder, root / "artifacts/prepared")
    (root / "artifacts/validated").mkdir()
    split = ["dev"] * 20 + ["train"] * (len(store) - 20)
    store.rows.assign(split=split).to_parquet(root / "artifacts/validated/manifest.parquet", index=False)
    values = {
        "features": {"sample_rate_hz": 8000, "mels": 16},
        "encoder": {"channels": 8, "dim": 16, "layers": 1, "heads": 2, "kernel": 5, "embedding": 16},
        "pretrain": {
            "objective": objective,
            "precision": precision,
            "steps": STEPS,
            "batch_s": 6.0,
            "checkpoint_every": 4,
            "stream": stream,
            "window_shards": 2,
        },
    }
    about = asdict(store.config) | {"sample_rate_hz": 8000}
    (root / "artifacts/prepared/features.json").write_text(json.dumps(about))
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    return load_params(root / "params.yaml")


def losses(root: Path) -> list[float]:
    return pd.read_csv(root / "artifacts/plots/pretrain.csv")["loss"].tolist()


@pytest.mark.parametrize(
    ("objective", "precision"), [*((name, "float32") for name in get_args(Objective)), ("masked", "bfloat16")]
)
def test_a_killed_run_on_a_stream_resumes_to_the_same_weights(
    objective: Objective, precision: Precision, tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    rows = write_corpus(tmp_path / "corpus")
    store = make_store()
    with served(tmp_path / "corpus") as server:
        uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
        params = project(killed, store, server.url, objective, precision)
        assert exit_code_when_killed_at(f"step 8 of {STEPS}", params, killed) == -signal.SIGKILL
        run(project(uninterrupted, store, server.url, objective, precision), uninterrupted)
        assert not (killed / "artifacts/encoder").exists()
        server.requests.clear()
        run(params, killed)
        shards_read = [path for path in server.requests if path.endswith(".tar")]
    assert losses(killed) == losses(uninterrupted)
    assert len(losses(killed)) == STEPS
    assert len(set(losses(uninterrupted))) == STEPS
    encoders = [
        (root / "artifacts/encoder/encoder.safetensors").read_bytes() for root in (uninterrupted, killed)
    ]
    assert encoders[0] == encoders[1]
    assert shards_read, "the resumed run read shards"
    about = json.loads((killed / "artifacts/metrics/pretrain.json").read_text())
    train = rows[(rows["split"] == "train") & (rows["unit"] != "digit")]
    assert about["hours"] == round(train["duration_s"].sum() / 3600, 3)
    assert about["shards"] == 5
    assert about["skipped"] == {"recordings": 0, "names": 0, "first": {}}


def test_without_a_stream_the_stage_trains_on_the_prepared_speech(
    tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    store = make_store()
    run(project(tmp_path / "project", store, ""), tmp_path / "project")
    about = json.loads((tmp_path / "project/artifacts/metrics/pretrain.json").read_text())
    assert "stream" not in about
    assert about["dev_loss"] < about["dev_loss_before"]
    assert about["skipped_steps"] == 0


@pytest.mark.parametrize("objective", get_args(Objective))
def test_recordings_whose_features_are_not_finite_are_skipped_and_too_many_stop_the_run(
    objective: Objective, tmp_path: Path, make_store: Callable[..., Store], capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(sentences=40)
    params = project(tmp_path, store, "", objective)
    features = np.memmap(tmp_path / "artifacts/prepared/features.f16", "<f2", "r+").reshape(-1, 16)
    first = store.rows["first_frame"].to_numpy()
    features[first[-1] :] = np.nan  # one sentence of the training split
    features.flush()
    run(params, tmp_path)
    encoder = load_file(tmp_path / "artifacts/encoder/encoder.safetensors")
    assert all(torch.isfinite(value).all() for value in encoder.values())
    missing = int(np.isnan(losses(tmp_path)).sum())
    about = json.loads((tmp_path / "artifacts/metrics/pretrain.json").read_text())
    assert about["skipped_steps"] == missing
    assert 1 <= missing <= 3
    assert f"skipped {missing} of {STEPS} steps" in capsys.readouterr().out
    assert np.isfinite(about["dev_loss"])
    features[first[20] :] = np.inf
    features.flush()
    shutil.rmtree(tmp_path / ".metavox")
    with pytest.raises(UserError, match="4 of 4 steps had a loss that is not finite"):
        run(params, tmp_path)


def test_another_manifest_at_the_same_url_restarts_the_training(
    tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    rows = write_corpus(tmp_path / "corpus")
    params = project(tmp_path / "project", make_store(), str(tmp_path / "corpus"))
    run(params, tmp_path / "project")
    before = losses(tmp_path / "project")
    run(params, tmp_path / "project")
    assert losses(tmp_path / "project") == before
    rows[~rows["path"].str.contains("part0")].to_csv(tmp_path / "corpus/manifest.csv", index=False)
    run(params, tmp_path / "project")
    assert losses(tmp_path / "project")[0] != before[0]


def test_a_missing_stream_stops_the_stage_before_training(
    tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    params = project(tmp_path / "project", make_store(), str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"no manifest.parquet and no manifest.csv"):
        run(params, tmp_path / "project")
    assert not (tmp_path / "project/artifacts/metrics").exists()
