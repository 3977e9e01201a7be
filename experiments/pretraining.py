"""unlabelled: what self-supervision learns from how many hours of speech; an experiment of its own.

A third of the recorded training speakers, and all development speakers, are kept from pretraining. An encoder is then
pretrained on some hours of the others, always for the same number of steps, and probed on both. `experiments/dvc.yaml`
runs it; a finished run is not run again.
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
    """One encoder, pretrained as the parameters say on at most `hours` -> the JSON file `out`: each probe, item by item.

    0 hours are random weights.
    """
    params = params.model_copy(update={"seed": seed})
    store = learnable(clean_store(root), "train", "dev")
    unheard = kept_apart(store.rows)
    heard = store.where(~store.rows["speaker"].isin(unheard))
    speech = some(heard, hours, seed) if hours else heard
    encoder = _pretrained(params, root, speech) if hours else random_encoder(params, speech, _budget(params))
    right = run_probes(encoder, store, probe_sets(store.rows, unheard, 0), 0)
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


def kept_apart(rows: pd.DataFrame) -> frozenset[str]:
    """Speakers that pretraining does not hear: those for development, and every third recorded one by name."""
    recorded = np.unique(rows.loc[(rows["split"] == "train") & ~rows["synthetic"], "speaker"])
    return frozenset(recorded[2::3]) | frozenset(rows.loc[rows["split"] == "dev", "speaker"])


def some(store: Store, hours: float, seed: int) -> Store:
    """Recordings drawn at random until there are so many hours of them."""
    order = np.random.default_rng(seed).permutation(len(store))
    total = store.rows["duration_s"].to_numpy()[order].cumsum()
    kept = np.zeros(len(store), bool)
    kept[order[total <= 3600 * hours]] = True
    if not kept.any():
        raise UserError(f"{hours} hours of unlabelled speech hold no recording; ask for more")
    return store.where(kept)


def table(root: Path) -> pd.DataFrame:
    """All runs there are -> artifacts/ablation/unlabelled.csv: a row a probe, a column an objective and its hours.

    Accuracy in %, and in brackets the gain over random weights of the same seeds, both with 95% intervals over seeds
    and items. Raises UserError when a seed has no run of random weights.
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
            gain = [found - start[run["seed"]][name] for found, run in zip(right, arm, strict=True)]
            row[f"{objective}, {hours:g} h" if hours else objective] = (
                f"{over_seeds(right)} ({over_seeds(gain)})" if hours else str(over_seeds(right))
            )
    found = pd.DataFrame(list(cells.values()))
    with written_aside(root / "artifacts/ablation/unlabelled.csv") as aside:
        found.to_csv(aside, index=False)
    return found


def _pretrained(params: Params, root: Path, speech: Store) -> Encoder:
    chosen = params.pretrain
    torch.manual_seed(params.seed)
    encoder = new_encoder(params)
    objective = make_objective(chosen.objective, encoder, Masking(chosen.mask_time, chosen.mask_frequency))
    task = PretrainTask(
        objective,
        store_batches(speech, _budget(params), params.seed),
        compute(chosen.precision),
        for_features(CHANNELS, speech.config),
    )
    sections = ("features", "frontend", "encoder", "pretrain")
    key = run_key(
        "metavox.pipeline.pretraining", params, sections, root, ("artifacts/validated/manifest.parquet",)
    )
    run_pretraining(params, task, f"unlabelled-{chosen.objective}-{len(speech)}-{params.seed}", root, key)
    return encoder.cpu()


def _budget(params: Params) -> int:
    return int(params.pretrain.batch_s / params.features.hop_s)
