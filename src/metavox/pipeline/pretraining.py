"""Self-supervised steps, and the probes that say what an encoder has learned."""

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
    """What a line finds in the encoder's frames and in random weights' ones, of speakers of the training split and of
    development speakers, which pretraining never heard; printed, and a row each."""
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
    print(f"pretrain: accuracy of probes\n{table.to_string(index=False)}", flush=True)
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def random_encoder(params: Params, store: Store, budget: int) -> Encoder:
    """What pretraining began from, but for its running statistics, which are those of speech too."""
    torch.manual_seed(params.seed)
    random, batches = new_encoder(params).train(), store_batches(store, budget, params.seed)
    with torch.inference_mode():
        for step in range(8):
            random(*batches(step))
    return random.eval()
