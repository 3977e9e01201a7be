"""pretrain: the encoder learns from speech without text, prepared here or streamed from a corpus folder at a URL.

Of a streamed corpus its manifest decides what may be learned from: split = train, no isolated digits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from metavox.audio.perturb import for_features
from metavox.dataset.remote import Remote
from metavox.dataset.store import Store
from metavox.dataset.stream import Stream, read_shards
from metavox.files import written_aside
from metavox.params import Params
from metavox.pipeline.artifacts import clean_store, learnable, run_key, write_metrics, write_plot
from metavox.pipeline.models import new_encoder
from metavox.pipeline.pretraining import learn, probes
from metavox.recognisers.conformer import Encoder
from metavox.threads import limit
from metavox.training.device import compute
from metavox.training.selfsupervised import (
    CHANNELS,
    Batches,
    Masking,
    PretrainTask,
    make_objective,
    store_batches,
)


@dataclass(frozen=True)
class Speech:
    """What is learned from; `digest` is of a stream's manifest, which the pipeline's inputs do not hold.

    `about` gives what else the metrics are to say.
    """

    batches: Batches
    hours: float
    digest: str = ""
    about: Callable[[], dict[str, object]] = dict


@contextmanager
def speech(params: Params, store: Store, budget: int) -> Iterator[Speech]:
    """The training rows of the stream that the parameters name, else of the store."""
    chosen = params.pretrain
    if not chosen.stream:
        train = learnable(store, "train")
        hours = float(train.rows["duration_s"].sum()) / 3600
        yield Speech(store_batches(train, budget, params.seed), hours)
        return
    shards = read_shards(Remote(chosen.stream))
    features = params.features
    with Stream(shards, features, budget, params.seed, window=chosen.window_shards) as stream:
        yield Speech(
            stream,
            shards.hours,
            shards.digest,
            lambda: {
                "stream": chosen.stream,
                "manifest": shards.digest,
                "shards": len(shards.names),
                "left_out": shards.left_out,
                "skipped": stream.skipped.as_dict(),
            },
        )


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated} -> artifacts/encoder/encoder.safetensors."""
    limit("large batches")
    budget = int(params.pretrain.batch_s / params.features.hop_s)
    store = clean_store(root)
    if params.base != "conformer":
        print(
            f"pretrain: the encoder that tells words apart; {params.base} was pretrained by those who made it",
            flush=True,
        )
    if params.metatrain.start:
        print(
            f"pretrain: for its probes and for ablations; metatrain begins from {params.metatrain.start} (metatrain.start)",
            flush=True,
        )
    with speech(params, store, budget) as train:
        _learn(params, root, train, store, budget)


def _learn(params: Params, root: Path, train: Speech, store: Store, budget: int) -> None:
    chosen, dev = params.pretrain, learnable(store, "dev")
    torch.manual_seed(params.seed)
    encoder = new_encoder(params)
    if params.encoder.kind == "bundle":  # it was self-supervised by others, on more speech than there is here
        _write(root, encoder)
        write_plot(root, "pretrain", pd.DataFrame({"step": [0], "loss": [0.0]}))
        write_metrics(root, "pretrain", {"steps": 0, "weights": params.encoder.weights or "random"})
        return
    task = PretrainTask(
        make_objective(chosen.objective, encoder, Masking(chosen.mask_time, chosen.mask_frequency)),
        train.batches,
        compute(chosen.precision),
        for_features(CHANNELS, params.features),
    )
    before = task.evaluate(dev, budget)
    key = run_key(
        __name__,
        params,
        ("features", "frontend", "encoder", "pretrain"),
        root,
        ("artifacts/validated/manifest.parquet",),
    )
    history = learn(params, task, "pretrain", root, key + train.digest)
    after = task.evaluate(dev, budget)
    encoder.cpu()
    _write(root, encoder)
    write_plot(root, "pretrain", history)
    write_metrics(
        root,
        "pretrain",
        {
            "objective": chosen.objective,
            "hours": round(train.hours, 3),
            "steps": chosen.steps,
            "skipped_steps": int(history["loss"].isna().sum()),
            "dev_loss_before": round(before, 4),
            "dev_loss": round(after, 4),
            **train.about(),
            "probes": probes(params, encoder, learnable(store, "train", "dev"), budget),
        },
    )


def _write(root: Path, encoder: Encoder) -> None:
    with written_aside(root / "artifacts/encoder") as folder:
        folder.mkdir()
        save_file(
            {k: v.contiguous() for k, v in encoder.state_dict().items()}, folder / "encoder.safetensors"
        )
