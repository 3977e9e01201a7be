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

from metavox.audio.features import FeatureConfig
from metavox.audio.perturb import suited
from metavox.corpus.remote import Remote
from metavox.corpus.store import Store
from metavox.corpus.stream import Stream, read_shards
from metavox.errors import UserError
from metavox.evaluate.probes import probe_table
from metavox.files import written_aside
from metavox.learn.device import compute
from metavox.learn.loop import Training, set_rate, step_if_finite
from metavox.learn.selfsupervised import CHANNELS, Batches, Masking, PretrainTask, make_objective, stored
from metavox.params import Params
from metavox.recognisers.conformer.encoders import Encoder, EncoderConfig, load_weights, make_encoder
from metavox.recognisers.conformer.frontend import FrontEndConfig
from metavox.stages.common import CHECKPOINTS, clean_store, learnable, run_key, write_metrics, write_plot
from metavox.threads import limit


def encoder_config(params: Params) -> EncoderConfig:
    values = params.encoder.model_dump(exclude={"embedding", "places", "weights"})
    return EncoderConfig(mels=params.features.mels, **values)


def frontend_config(params: Params) -> FrontEndConfig:
    return FrontEndConfig(**params.frontend.model_dump())


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
        yield Speech(stored(train, budget, params.seed), hours)
        return
    shards = read_shards(Remote(chosen.stream))
    features = FeatureConfig(**params.features.model_dump())
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
    budget = int(params.pretrain.batch_s * 1000 / params.features.hop_ms)
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
        suited(CHANNELS, FeatureConfig(**params.features.model_dump())),
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


def learn(params: Params, task: PretrainTask, name: str, root: Path, key: str) -> pd.DataFrame:
    """The steps that the parameters ask for; the loss of each."""
    chosen, parameters = params.pretrain, list(task.model.parameters())
    optimizer = torch.optim.AdamW(parameters, chosen.learning_rate, weight_decay=0.01)

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(
            optimizer, chosen.learning_rate, step, chosen.steps, warmup=max(1, min(50, chosen.steps // 4))
        )
        return {"loss": step_if_finite(task(step, random), optimizer, parameters)}

    return Training(
        name,
        {"model": task.model},
        {"optimizer": optimizer},
        update,
        chosen.steps,
        params.seed,
        root / CHECKPOINTS,
        key,
        chosen.checkpoint_every,
    ).run()


def probes(params: Params, encoder: Encoder, store: Store, budget: int) -> list[dict[str, object]]:
    """What a line finds in the encoder's frames and in random weights' ones, of voices of the training split and of
    development voices, which pretraining never heard; printed, and a row each."""
    of_dev = store.rows["split"] == "dev"
    encoders = {
        "self-supervised": encoder,
        "random weights": random_encoder(params, store.where(~of_dev), budget),
    }
    try:
        table = probe_table(encoders, store, params.seed, frozenset(store.rows.loc[of_dev, "voice"]))
    except UserError as error:
        print(f"pretrain: {error}", flush=True)
        return []
    print(f"pretrain: accuracy of probes\n{table.to_string(index=False)}", flush=True)
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def random_encoder(params: Params, store: Store, budget: int) -> Encoder:
    """What pretraining began from, but for its running statistics, which are those of speech too."""
    torch.manual_seed(params.seed)
    random, batches = new_encoder(params).train(), stored(store, budget, params.seed)
    with torch.inference_mode():
        for step in range(8):
            random(*batches(step))
    return random.eval()


def new_encoder(params: Params) -> Encoder:
    """What pretraining begins from. Raises UserError when the weights that the parameters name cannot be used."""
    features = FeatureConfig(**params.features.model_dump())
    encoder = make_encoder(encoder_config(params), frontend_config(params), features)
    if params.encoder.weights:
        load_weights(encoder, params.encoder.weights)
    return encoder


def _write(root: Path, encoder: Encoder) -> None:
    with written_aside(root / "artifacts/encoder") as folder:
        folder.mkdir()
        save_file(
            {k: v.contiguous() for k, v in encoder.state_dict().items()}, folder / "encoder.safetensors"
        )
