"""pretrain: the encoder learns from speech without text."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from metavox.files import written_aside
from metavox.learn.loop import Training, set_rate, step_if_finite
from metavox.learn.pretrain import Masking, PretrainTask
from metavox.model.encoder import Encoder, EncoderConfig
from metavox.params import Params
from metavox.stages.common import CHECKPOINTS, clean_store, learnable, run_key, write_metrics, write_plot


def encoder_config(params: Params) -> EncoderConfig:
    values = params.encoder.model_dump(exclude={"embedding"})
    return EncoderConfig(mels=params.features.mels, **values)


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated} -> artifacts/encoder/encoder.safetensors."""
    chosen = params.pretrain
    store = clean_store(root)
    train, dev = learnable(store, "train"), learnable(store, "dev")
    torch.manual_seed(params.seed)
    encoder = Encoder(encoder_config(params))
    budget = int(chosen.batch_s * 1000 / params.features.hop_ms)
    task = PretrainTask(encoder, train, Masking(chosen.mask_time, chosen.mask_frequency), budget, params.seed)
    parameters = list(task.model.parameters())
    optimizer = torch.optim.AdamW(parameters, chosen.learning_rate, weight_decay=0.01)
    before = task.evaluate(dev, budget)

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        set_rate(optimizer, chosen.learning_rate, step, chosen.steps)
        return {"loss": step_if_finite(task(step, random), optimizer, parameters)}

    history = Training(
        "pretrain", {"model": task.model}, {"optimizer": optimizer}, update, chosen.steps, params.seed,
        root / CHECKPOINTS, run_key(params, ("features", "encoder", "pretrain"), root, ("artifacts/validated/manifest.parquet",)),
        chosen.checkpoint_every,
    ).run()  # fmt: skip
    after = task.evaluate(dev, budget)
    with written_aside(root / "artifacts/encoder") as folder:
        folder.mkdir()
        save_file(
            {k: v.contiguous() for k, v in encoder.state_dict().items()}, folder / "encoder.safetensors"
        )
    write_plot(root, "pretrain", history)
    write_metrics(
        root, "pretrain",
        {"hours": round(float(train.rows["duration_s"].sum()) / 3600, 3), "steps": chosen.steps,
         "dev_loss_before": round(before, 4), "dev_loss": round(after, 4)},
    )  # fmt: skip
