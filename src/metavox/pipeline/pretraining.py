"""Self-supervised training, and linear probes of what an encoder has learned."""

from pathlib import Path

import pandas as pd
import torch

from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.metrics.probes import probe_table
from metavox.params import Params
from metavox.pipeline.artifacts import CHECKPOINTS
from metavox.pipeline.models import new_encoder
from metavox.recognisers.conformer import Encoder
from metavox.training.loop import Training, set_rate, step_if_finite
from metavox.training.selfsupervised import PretrainTask, store_batches


def run_pretraining(params: Params, task: PretrainTask, name: str, root: Path, key: str) -> pd.DataFrame:
    """Train `task` for `pretrain.steps`; returns the loss of each step."""
    config, parameters = params.pretrain, list(task.model.parameters())
    ranks = task.compute.ranks
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=0.01)

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(
            optimizer, config.learning_rate, step, config.steps, warmup=max(1, min(50, config.steps // 4))
        )
        return {"loss": step_if_finite(task(step, random), optimizer, parameters, ranks=ranks)}

    return Training(
        name,
        {"model": task.model},
        {"optimizer": optimizer},
        update,
        config.steps,
        params.seed,
        root / CHECKPOINTS,
        key,
        config.checkpoint_every,
        ranks,
    ).run()


def probe_encoder(params: Params, encoder: Encoder, store: Store, budget: int) -> list[dict[str, object]]:
    """Probe the encoder and one with random weights, on training and on development speakers; prints and returns rows.

    Pretraining uses no development speakers. The list is empty where there is too little speech to probe.
    """
    of_dev = store.rows["split"] == "dev"
    encoders = {
        "self-supervised": encoder,
        "random weights": random_encoder(params, store.where(~of_dev), budget),
    }
    try:
        table = probe_table(encoders, store, params.seed, frozenset(store.rows.loc[of_dev, "speaker"]))
    except UserError as error:
        print(f"pretrain: {error}", flush=True)
        return []
    print(f"pretrain: accuracy of linear probes\n{table.to_string(index=False)}", flush=True)
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def random_encoder(params: Params, store: Store, budget: int) -> Encoder:
    """An untrained encoder, except that its running statistics are those of speech."""
    torch.manual_seed(params.seed)
    random, batches = new_encoder(params).train(), store_batches(store, budget, params.seed)
    with torch.inference_mode():
        for step in range(8):
            random(*batches(step))
    return random.eval()
