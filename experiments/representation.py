"""Experiment: the contribution of each front end and each encoder.

    words -> words for training and test with all extra features; the test words also in each adverse condition
    train -> one front end or encoder with one seed, from random weights: the accuracy of each episode in each condition
    table -> each of them against log-mels and the default encoder, with intervals

`experiments/dvc.yaml` runs these commands and skips runs that are finished.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from experiments.augmentation import evaluate_words, render, train_words
from experiments.comparison import table as against
from metavox.audio.perturb import Perturbation
from metavox.config import Extra
from metavox.dataset.manifest import write_manifest
from metavox.dataset.store import MANIFEST, Store
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.params import Params
from metavox.pipeline.artifacts import clean_store, learnable
from metavox.pipeline.models import model_config
from metavox.recognisers.conformer import Network
from metavox.search.space import with_values
from metavox.stages.prepare import prepare
from metavox.training.device import Precision
from metavox.training.joint import labelled

FOLDER = Path("artifacts/ablation")
WORDS, RUNS = FOLDER / "words", FOLDER / "representation"
PREPARED_STATE = Path(".metavox/words")
BASELINE = "mel"
KINDS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "mel-running": {"frontend.statistics": "running"},
    "pcen": {"frontend.streams": ("pcen",)},
    "mel-pcen": {"frontend.streams": ("mel", "pcen")},
    "mel-envelope": {"frontend.streams": ("mel", "envelope")},
    "mel-prosody": {"frontend.streams": ("mel", "prosody")},
    "mel-formants": {"frontend.streams": ("mel", "formants")},
    "wiener": {"frontend.enhance": "wiener"},
    "subtraction": {"frontend.enhance": "subtraction"},
    "warp": {"frontend.warp": True},
    "cnn": {"encoder.kind": "cnn"},
    "recurrent": {"encoder.kind": "recurrent"},
}


def words(params: Params, root: Path) -> None:
    """Write artifacts/ablation/words/{prepared,adverse}, stores of words with all extra features."""
    rows = clean_store(root).rows
    rows = rows[rows["unit"].isin(("word", "letter"))].reset_index(drop=True)
    features = replace(params.features, extras=get_args(Extra))
    with written_aside(root / WORDS) as folder:
        (folder / "prepared").mkdir(parents=True)
        prepared = prepare(
            rows,
            root / "data/manifest.csv",
            features,
            folder / "prepared",
            params.prepare.workers,
            root / PREPARED_STATE,
        )
        write_manifest(prepared, folder / "prepared" / MANIFEST)
        render(Store(folder / "prepared"), params, root, folder / "adverse")
    shutil.rmtree(root / PREPARED_STATE)


def train(params: Params, root: Path, out: Path, kind: str, seed: int, precision: Precision) -> None:
    """Train one kind from random weights and write the JSON file `out`. Raises UserError for an unknown kind."""
    if kind not in KINDS:
        raise UserError(f"{kind}: no such representation; expected one of {', '.join(KINDS)}")
    store = Store(root / WORDS / "prepared")
    values: dict[str, Any] = {"features.extras": store.config.extras, **KINDS[kind]}
    changed = with_values(params, values)
    data_store = learnable(store, "train")
    torch.manual_seed(seed)
    model = Network(model_config(changed, data_store))
    data = labelled(data_store, model.tokenizer)
    model, history = train_words(
        changed,
        root,
        model,
        data,
        Perturbation(),
        f"{kind}-{seed}-{precision}",
        seed,
        precision,
    )
    by_condition = evaluate_words(model, store, Store(root / WORDS / "adverse"), changed)
    write_json(
        out,
        {
            "kind": kind,
            "seed": seed,
            "precision": precision,
            "steps": changed.ablation.steps,
            "parameters": sum(p.numel() for p in model.parameters()),
            "loss": round(float(history["loss"].tail(20).mean()), 4),
            "accuracies": {k: [round(float(x), 6) for x in v] for k, v in by_condition.items()},
        },
    )


def table(root: Path) -> pd.DataFrame:
    """Summarise all runs in artifacts/ablation/representation.csv. Raises UserError if the baseline has not run."""
    runs = pd.DataFrame(_runs(root))
    if runs.empty or BASELINE not in set(runs["kind"]):
        raise UserError(f"{RUNS}: no run of {BASELINE}; run `dvc repro experiments/dvc.yaml`")
    order = runs["kind"].map(list(KINDS).index)
    summary = against(
        runs.assign(order=order).sort_values(["order", "seed"], kind="stable"), BASELINE, by="kind"
    )
    with written_aside(root / FOLDER / "representation.csv") as aside:
        summary.to_csv(aside, index=False)
    return summary


def _runs(root: Path) -> list[dict[str, object]]:
    files = [json.loads(file.read_text()) for file in sorted((root / RUNS).glob("*.json"))]
    return [
        {"kind": run["kind"], "seed": run["seed"], "condition": condition, "accuracies": np.array(values)}
        for run in files
        for condition, values in run["accuracies"].items()
    ]
