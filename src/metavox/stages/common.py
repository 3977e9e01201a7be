"""What stages share: where artifacts are, what a run depends on, which rows may be learned from."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from metavox.corpus.manifest import read_manifest
from metavox.corpus.store import Store
from metavox.files import write_json, written_aside
from metavox.params import Params

NAMES = ("prepare", "validate", "augment", "pretrain", "metatrain", "adapt", "evaluate", "package")
PACKAGE = Path(__file__).parents[1]
CHECKPOINTS = Path(".metavox/checkpoints")


def clean_store(root: Path) -> Store:
    """The rows that passed the gate, with their log-mels."""
    rows = read_manifest(root / "artifacts/validated/manifest.parquet")
    return Store(root / "artifacts/prepared", rows)


def learnable(store: Store, *splits: str, longest_s: float = 12.0) -> Store:
    """Rows of one or more splits for learning: no isolated digits, which stay an honest test of unseen words."""
    rows = store.rows
    return store.where(
        rows["split"].isin(splits)
        & (rows["unit"] != "digit")
        & (rows["frames"] > 0)
        & (rows["duration_s"] <= longest_s)
    )


def run_key(params: Params, sections: tuple[str, ...], root: Path, inputs: tuple[str, ...]) -> str:
    """What a training run depends on: parameters, inputs, code. A checkpoint of another key is not resumed."""
    values = params.model_dump(by_alias=True)
    total = hashlib.sha256(json.dumps([values["seed"], *(values[s] for s in sections)], default=str).encode())
    for name in inputs:
        total.update((root / name).read_bytes())
    for part in ("audio", "corpus", "learn", "recognisers/conformer"):
        for source in sorted((PACKAGE / part).rglob("*.py")):
            total.update(source.read_bytes())
    return total.hexdigest()


def write_metrics(root: Path, stage: str, values: dict[str, object]) -> None:
    write_json(root / "artifacts/metrics" / f"{stage}.json", values)


def write_plot(root: Path, stage: str, rows: pd.DataFrame) -> None:
    with written_aside(root / "artifacts/plots" / f"{stage}.csv") as aside:
        rows.to_csv(aside, index=False, float_format="%.6g")
