"""What stages share: where artifacts are, what a training run depends on, and which rows it may use."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from metavox.audio.read import read_audio
from metavox.code import code_digest
from metavox.dataset.manifest import read_manifest
from metavox.dataset.store import Store
from metavox.files import write_json, written_aside
from metavox.params import Params
from metavox.recognisers import registry
from metavox.recognisers.recogniser import Audio, Recogniser, WordEmbedder
from metavox.session import Session

NAMES = ("prepare", "validate", "augment", "pretrain", "metatrain", "adapt", "evaluate", "package")
DISTRIBUTED = ("pretrain", "metatrain")  # stages that `torchrun` can run in several processes
CHECKPOINTS = Path(".metavox/checkpoints")
SOURCE = "source.json"  # where the foundation base in artifacts/recogniser came from


def clean_store(root: Path) -> Store:
    """The rows that passed the gate, with their log-mels."""
    rows = read_manifest(root / "artifacts/validated/manifest.parquet")
    return Store(root / "artifacts/prepared", rows)


def learnable(store: Store, *splits: str, max_duration_s: float = 12.0) -> Store:
    """Rows of the `splits` for training, without isolated digits, which remain a test of unseen words."""
    rows = store.rows
    return store.where(
        rows["split"].isin(splits)
        & (rows["unit"] != "digit")
        & (rows["frames"] > 0)
        & (rows["duration_s"] <= max_duration_s)
    )


def trained_session(root: Path) -> Session:
    """The pipeline's recogniser as a session: the word embedder, and the foundation base where one transcribes.

    Raises TypeError when the artifact is not a word embedder.
    """
    folder = root / "artifacts/recogniser"
    embedder = registry.load(folder)
    if not isinstance(embedder, WordEmbedder):
        raise TypeError(f"{folder}: got a {embedder.spec.kind}; expected a conformer, which embeds words")
    base = folder / registry.BASE
    return Session(registry.load(base, base_name(base)) if base.is_dir() else embedder, embedder)


def base_name(folder: Path) -> str:
    """The original name of the base in `folder`."""
    return str(json.loads((folder / SOURCE).read_text(encoding="utf-8"))["name"])


def recordings(
    store: Store, rows: Sequence[int] | np.ndarray, recogniser: Recogniser, root: Path
) -> list[Audio]:
    """Rows of the prepared corpus as the recogniser's input: the stored log-mels for a conformer, else the recordings."""
    if recogniser.spec.kind == "conformer":
        return [store[int(row)] for row in rows]
    rate = recogniser.spec.sample_rate_hz
    paths = [root / "data" / str(store.rows.at[int(row), "path"]) for row in rows]
    return recogniser.prepare([read_audio(path, rate) for path in paths])


def run_key(
    module: str, params: Params, sections: tuple[str, ...], root: Path, inputs: tuple[str, ...]
) -> str:
    """A digest of everything that a training run in `module` depends on; a checkpoint with another key is not resumed.

    That is the seed, the `sections` of the parameters (or single keys, with a dot), the files `inputs` under `root`, and
    the code that the module imports.
    """
    values = [_plain(attrgetter(name)(params)) for name in sections]
    total = hashlib.sha256(json.dumps([params.seed, values, code_digest(module)]).encode())
    for name in inputs:
        total.update((root / name).read_bytes())
    return total.hexdigest()


def _plain(value: Any) -> Any:
    """A section of the parameters as a mapping; a single value as it is."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def write_metrics(root: Path, stage: str, values: dict[str, object]) -> None:
    write_json(root / "artifacts/metrics" / f"{stage}.json", values)


def write_plot(root: Path, stage: str, rows: pd.DataFrame) -> None:
    with written_aside(root / "artifacts/plots" / f"{stage}.csv") as aside:
        rows.to_csv(aside, index=False, float_format="%.6g")
