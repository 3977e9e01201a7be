"""prepare: every recording decoded, measured, and turned into log-mels, once.

A recording that cannot be decoded keeps its row, with the reason in `error`: the gate decides about it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.progress import track

from metavox.audio.features import FeatureConfig, LogMel, log_mel
from metavox.audio.measure import Measures, measure
from metavox.audio.read import decode, read_bytes, resample
from metavox.corpus.manifest import read_manifest, resolve, write_manifest
from metavox.corpus.store import ABOUT, FEATURES, MANIFEST
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.params import Params

CHUNK = 64
MAX_FEATURES_S = 60.0  # longer recordings are for the gate to judge, not to be held in memory


def run(params: Params, root: Path) -> None:
    """data/manifest.csv -> artifacts/prepared/{manifest.parquet, features.f16, features.json}."""
    source = root / "data" / "manifest.csv"
    rows = read_manifest(source)
    features = FeatureConfig(**params.features.model_dump())
    with written_aside(root / "artifacts" / "prepared") as folder:
        folder.mkdir()
        prepared = prepare(rows, source, features, folder, params.prepare.workers)
        write_manifest(prepared, folder / MANIFEST)
    write_json(root / "artifacts/metrics/prepare.json", summary(prepared))


def prepare(
    rows: pd.DataFrame, manifest: Path, features: FeatureConfig, folder: Path, workers: int
) -> pd.DataFrame:
    """Write the log-mels of every row to `folder`; the rows with what was measured, and where theirs are."""
    if rows.empty:
        raise UserError(f"{manifest}: no row; expected at least one recording")
    paths = [str(resolve(manifest, path)) for path in rows["path"]]
    measured, first = [], 0
    with (folder / FEATURES).open("wb") as file:
        for result in _in_order(paths, features, workers):
            mels, about = result
            file.write(mels.tobytes())
            measured.append({**about, "first_frame": first, "frames": len(mels)})
            first += len(mels)
    (folder / ABOUT).write_text(json.dumps(features.as_dict()))
    found = pd.DataFrame(measured, index=rows.index)
    return pd.concat([rows.drop(columns=found.columns, errors="ignore"), found], axis=1)


def prepare_one(path: str, transform: LogMel) -> tuple[np.ndarray, dict[str, object]]:
    """One recording to (log-mels (frames, mels) float16, its measures)."""
    config = transform.config
    empty = np.zeros((0, config.mels), np.float16)
    try:
        data = read_bytes(path)
        samples, rate = decode(data, path)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")  # the row says which file; its place is this machine's
        return empty, {**_unmeasured(), "sample_rate": 0, "error": reason, "content": ""}
    content = hashlib.sha256(data).hexdigest()
    about = {**asdict(measure(samples, rate)), "sample_rate": rate, "error": "", "content": content}
    if len(samples) > MAX_FEATURES_S * rate:
        return empty, about
    mels = log_mel(resample(samples, rate, config.sample_rate_hz), transform)
    return mels.numpy().astype(np.float16), about


def summary(rows: pd.DataFrame) -> dict[str, object]:
    """What the prepared corpus holds, for people and as a DVC metric."""
    hours = rows["duration_s"].sum() / 3600
    real = rows[~rows["synthetic"]]
    return {
        "recordings": len(rows),
        "hours": round(float(hours), 3),
        "hours_recorded": round(float(real["duration_s"].sum() / 3600), 3),
        "voices_recorded": int(real["voice"].nunique()),
        "languages_recorded": int(real["language"].nunique()),
        "languages": int(rows["language"].nunique()),
        "undecodable": int((rows["error"] != "").sum()),
    }


def _in_order(
    paths: list[str], features: FeatureConfig, workers: int
) -> Iterator[tuple[np.ndarray, dict[str, object]]]:
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    work = partial(_prepare_chunk, features=features)
    if workers == 1:
        results: Iterable[list] = map(work, chunks)
        for chunk in track(results, "prepare", total=len(chunks), transient=True):
            yield from chunk
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for chunk in track(pool.map(work, chunks), "prepare", total=len(chunks), transient=True):
            yield from chunk


def _prepare_chunk(paths: list[str], features: FeatureConfig) -> list[tuple[np.ndarray, dict[str, object]]]:
    torch.set_num_threads(1)
    transform = LogMel(features)
    return [prepare_one(path, transform) for path in paths]


def _unmeasured() -> dict[str, float]:
    return dict.fromkeys(Measures.__dataclass_fields__, float("nan"))
