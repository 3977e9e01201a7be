"""pretrain: the encoder learns from speech without text, from the prepared store or streamed from a corpus at a URL.

From a streamed corpus, only rows with split = train in its manifest are used, without isolated digits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from metavox.pipeline.pretraining import probe_encoder, run_pretraining
from metavox.recognisers.conformer import Encoder
from metavox.threads import limit
from metavox.training.device import compute
from metavox.training.distributed import Ranks, launched
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
    """The training data; `about()` gives further entries for the metrics.

    `digest` identifies a stream's manifest, which is not among the stage's input files. `ranks` says whether the processes
    that train draw the same batches or each its own.
    """

    batches: Batches
    ranks: Ranks
    hours: float
    digest: str = ""
    about: Callable[[], dict[str, object]] = dict


@contextmanager
def speech(params: Params, store: Store, budget: int, ranks: Ranks) -> Iterator[Speech]:
    """The training rows of the stream `pretrain.stream`, or of the store where no stream is named.

    Several processes share out the shards of a stream, because reading all of them in each would multiply the traffic.
    """
    config = params.pretrain
    if not config.stream:
        train = learnable(store, "train")
        hours = float(train.rows["duration_s"].sum()) / 3600
        yield Speech(store_batches(train, budget, params.seed), ranks, hours)
        return
    shards = read_shards(Remote(config.stream))
    features = params.features
    with Stream(
        shards, features, budget // ranks.world, params.seed, ranks.rank, ranks.world, config.window_shards
    ) as stream:
        yield Speech(
            stream,
            replace(ranks, apart=True),
            shards.hours,
            shards.digest,
            lambda: {
                "stream": config.stream,
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
            f"pretrain: training the encoder that distinguishes words; the base {params.base} is already pretrained",
            flush=True,
        )
    if params.metatrain.start:
        print(
            f"pretrain: metatrain starts from {params.metatrain.start} (metatrain.start); this encoder serves only the "
            "probes and experiments",
            flush=True,
        )
    with launched() as ranks, speech(params, store, budget, ranks) as train:
        _pretrain(params, root, train, store, budget)


def _pretrain(params: Params, root: Path, train: Speech, store: Store, budget: int) -> None:
    config, dev = params.pretrain, learnable(store, "dev")
    torch.manual_seed(params.seed)
    encoder = new_encoder(params)
    if params.encoder.kind in ("bundle", "whisper"):  # published, and pretrained on more speech than is here
        weights = params.base if params.encoder.kind == "whisper" else params.encoder.weights or "random"
        if not train.ranks.first:
            return
        _write(root, encoder)
        write_plot(root, "pretrain", pd.DataFrame({"step": [0], "loss": [0.0]}))
        write_metrics(root, "pretrain", {"steps": 0, "weights": weights})
        return
    task = PretrainTask(
        make_objective(config.objective, encoder, Masking(config.mask_time, config.mask_frequency)),
        train.batches,
        compute(config.precision, train.ranks),
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
    history = run_pretraining(params, task, "pretrain", root, key + train.digest)
    if not train.ranks.first:
        return
    after = task.evaluate(dev, budget)
    encoder.cpu()
    _write(root, encoder)
    write_plot(root, "pretrain", history)
    write_metrics(
        root,
        "pretrain",
        {
            "objective": config.objective,
            "hours": round(train.hours, 3),
            "steps": config.steps,
            "skipped_steps": int(history["loss"].isna().sum()),
            "dev_loss_before": round(before, 4),
            "dev_loss": round(after, 4),
            **train.about(),
            "probes": probe_encoder(params, encoder, learnable(store, "train", "dev"), budget),
        },
    )


def _write(root: Path, encoder: Encoder) -> None:
    with written_aside(root / "artifacts/encoder") as folder:
        folder.mkdir()
        save_file(
            {k: v.contiguous() for k, v in encoder.state_dict().items()}, folder / "encoder.safetensors"
        )
