"""Experiment: self-supervised pretraining by the number of hours of unlabelled speech.

A third of the recorded training speakers and all development speakers are held out of pretraining. An encoder is
pretrained on some hours of the others, always for the same number of steps, and probed on both groups.
`experiments/dvc.yaml` runs this and skips runs that are finished.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from experiments.comparison import over_seeds
from metavox.audio.perturb import for_features
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.metrics.probes import probe_sets, run_probes
from metavox.params import Params
from metavox.pipeline.artifacts import clean_store, learnable, run_key
from metavox.pipeline.models import new_encoder
from metavox.pipeline.pretraining import random_encoder, run_pretraining
from metavox.recognisers.conformer import Encoder
from metavox.training.device import compute
from metavox.training.selfsupervised import CHANNELS, Masking, PretrainTask, make_objective, store_batches

FOLDER = Path("artifacts/ablation/unlabelled")
RANDOM = "random weights"


def by_hours(params: Params, root: Path, out: Path, hours: float, seed: int) -> None:
    """Pretrain one encoder on at most `hours` of speech and write its probe results, item by item, to the JSON file `out`.

    0 hours means random weights. Raises UserError if no recording fits into `hours`.
    """
    params = params.model_copy(update={"seed": seed})
    store = learnable(clean_store(root), "train", "dev")
    held_out = held_out_speakers(store.rows)
    pool = store.where(~store.rows["speaker"].isin(held_out))
    speech = draw_hours(pool, hours, seed) if hours else pool
    encoder = _pretrained(params, root, speech) if hours else random_encoder(params, speech, _budget(params))
    right = run_probes(encoder, store, probe_sets(store.rows, held_out, 0), 0)
    write_json(
        out,
        {
            "objective": params.pretrain.objective if hours else RANDOM,
            "seed": seed,
            "hours": round(float(speech.rows["duration_s"].sum()) / 3600, 2) if hours else 0.0,
            "steps": params.pretrain.steps if hours else 0,
            "right": {name: [round(float(x), 4) for x in values] for name, values in right.items()},
        },
    )


def held_out_speakers(rows: pd.DataFrame) -> frozenset[str]:
    """Speakers held out of pretraining: the development speakers, and every third recorded training speaker by name."""
    recorded = np.unique(rows.loc[(rows["split"] == "train") & ~rows["synthetic"], "speaker"])
    return frozenset(recorded[2::3]) | frozenset(rows.loc[rows["split"] == "dev", "speaker"])


def draw_hours(store: Store, hours: float, seed: int) -> Store:
    """Draw at most `hours` of recordings at random. Raises UserError if none fits."""
    order = np.random.default_rng(seed).permutation(len(store))
    total = store.rows["duration_s"].to_numpy()[order].cumsum()
    kept = np.zeros(len(store), bool)
    kept[order[total <= 3600 * hours]] = True
    if not kept.any():
        raise UserError(f"--hours {hours}: shorter than any recording drawn; expected more hours")
    return store.where(kept)


def table(root: Path) -> pd.DataFrame:
    """Summarise all runs in artifacts/ablation/unlabelled.csv: a row per probe, a column per objective and hours.

    Cells give the accuracy in % and, in brackets, the gain over random weights of the same seeds, both with 95% intervals
    over seeds and items. Raises UserError if a seed has no run of random weights.
    """
    runs = [json.loads(file.read_text()) for file in sorted((root / FOLDER).glob("*.json"))]
    start = {run["seed"]: run["right"] for run in runs if run["objective"] == RANDOM}
    if not start or any(run["seed"] not in start for run in runs):
        raise UserError(
            f"{FOLDER}: a seed has no run of random weights (--hours 0); run `dvc repro experiments/dvc.yaml`"
        )
    cells: dict[str, dict[str, str]] = {name: {"probe": name} for name in next(iter(start.values()))}
    arms: dict[tuple[float, str], list[dict]] = {}
    for run in runs:
        arms.setdefault((run["hours"], run["objective"]), []).append(run)
    for (hours, objective), arm in sorted(arms.items()):
        for name, row in cells.items():
            right = [np.asarray(run["right"][name]) for run in arm]
            gain = [correct - start[run["seed"]][name] for correct, run in zip(right, arm, strict=True)]
            row[f"{objective}, {hours:g} h" if hours else objective] = (
                f"{over_seeds(right)} ({over_seeds(gain)})" if hours else str(over_seeds(right))
            )
    summary = pd.DataFrame(list(cells.values()))
    with written_aside(root / "artifacts/ablation/unlabelled.csv") as aside:
        summary.to_csv(aside, index=False)
    return summary


def _pretrained(params: Params, root: Path, speech: Store) -> Encoder:
    config = params.pretrain
    torch.manual_seed(params.seed)
    encoder = new_encoder(params)
    objective = make_objective(config.objective, encoder, Masking(config.mask_time, config.mask_frequency))
    task = PretrainTask(
        objective,
        store_batches(speech, _budget(params), params.seed),
        compute(config.precision),
        for_features(CHANNELS, speech.config),
    )
    sections = ("features", "frontend", "encoder", "pretrain")
    key = run_key(
        "metavox.pipeline.pretraining", params, sections, root, ("artifacts/validated/manifest.parquet",)
    )
    run_pretraining(params, task, f"unlabelled-{config.objective}-{len(speech)}-{params.seed}", root, key)
    return encoder.cpu()


def _budget(params: Params) -> int:
    return int(params.pretrain.batch_s / params.features.hop_s)
