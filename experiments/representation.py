"""representation: what each front end and each encoder is worth; an experiment of its own, as `ablate` is.

    words -> words for training and test with all extras beside their log-mels, the test's in each condition too
    train -> one front end or encoder with one seed, from random weights: the accuracy of each episode in each condition
    table -> each against log-mels and the default encoder, with intervals

`experiments/dvc.yaml` runs them; a finished run is not run again.
"""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from experiments.augmentation import judge_words, render, train_words
from experiments.comparison import table as against
from metavox.audio.features import Extra, FeatureConfig
from metavox.audio.perturb import Perturbation
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
KEPT = Path(".metavox/words")
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
    """artifacts/validated -> artifacts/ablation/words: {prepared, adverse}, stores of words with all extras."""
    rows = clean_store(root).rows
    rows = rows[rows["unit"].isin(("word", "letter"))].reset_index(drop=True)
    features = FeatureConfig(**{**params.features.model_dump(), "extras": get_args(Extra)})
    with written_aside(root / WORDS) as folder:
        (folder / "prepared").mkdir(parents=True)
        made = prepare(
            rows,
            root / "data/manifest.csv",
            features,
            folder / "prepared",
            params.prepare.workers,
            root / KEPT,
        )
        write_manifest(made, folder / "prepared" / MANIFEST)
        render(Store(folder / "prepared"), params, root, folder / "adverse")
    shutil.rmtree(root / KEPT)


def train(params: Params, root: Path, out: Path, kind: str, seed: int, precision: Precision) -> None:
    """One kind from random weights -> the JSON file `out`. Raises UserError for a kind that there is none of."""
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
    found = judge_words(model, store, Store(root / WORDS / "adverse"), changed)
    write_json(
        out,
        {
            "kind": kind,
            "seed": seed,
            "precision": precision,
            "steps": changed.ablation.steps,
            "parameters": sum(p.numel() for p in model.parameters()),
            "loss": round(float(history["loss"].tail(20).mean()), 4),
            "accuracies": {k: [round(float(x), 6) for x in v] for k, v in found.items()},
        },
    )


def table(root: Path) -> pd.DataFrame:
    """All runs there are -> artifacts/ablation/representation.csv. Raises UserError where the baseline has not run."""
    runs = pd.DataFrame(_runs(root))
    if runs.empty or BASELINE not in set(runs["kind"]):
        raise UserError(f"{RUNS}: no run of {BASELINE}; run `dvc repro experiments/dvc.yaml`")
    place = runs["kind"].map(list(KINDS).index)
    found = against(
        runs.assign(place=place).sort_values(["place", "seed"], kind="stable"), BASELINE, by="kind"
    )
    with written_aside(root / FOLDER / "representation.csv") as aside:
        found.to_csv(aside, index=False)
    return found


def _runs(root: Path) -> list[dict[str, object]]:
    files = [json.loads(file.read_text()) for file in sorted((root / RUNS).glob("*.json"))]
    return [
        {"kind": run["kind"], "seed": run["seed"], "condition": condition, "accuracies": np.array(values)}
        for run in files
        for condition, values in run["accuracies"].items()
    ]
