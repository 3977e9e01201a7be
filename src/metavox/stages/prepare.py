"""prepare: decode and measure every recording and compute its log-mels, once.

A recording that cannot be decoded keeps its row, with the reason in the column `error`; the quality gate decides about it.

The manifest is processed in batches. The result of each is cached in `.metavox/prepared` under a key of its recordings,
the features and the code, so that after an interruption, or when recordings are added, only new batches are decoded.

Processors differ in the order of floating-point operations. Everything is therefore computed in double precision and
rounded much more coarsely, log-mels to half precision and measures to six decimals, which gives the same bytes on any
x86-64.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from metavox.audio import bytestream as bytestream_module
from metavox.audio import channels as channels_module
from metavox.audio import features as features_module
from metavox.audio import formants as formants_module
from metavox.audio import framing as framing_module
from metavox.audio import intact as intact_module
from metavox.audio import levinson as levinson_module
from metavox.audio import measure as measure_module
from metavox.audio import prosody as prosody_module
from metavox.audio import read as read_module
from metavox.audio.features import Transform, extract, make_transform
from metavox.audio.intact import damage
from metavox.audio.measure import Measures, measure
from metavox.audio.read import decode, read_bytes, resample, tar_of
from metavox.config import FeatureConfig
from metavox.dataset.manifest import read_manifest, resolve, write_manifest
from metavox.dataset.store import ABOUT, FEATURES, MANIFEST
from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.params import Params
from metavox.progress import bar
from metavox.threads import limit

BATCH = 256  # recordings
DECIMALS = 6  # of a measure
CACHE = Path(".metavox/prepared")
MAX_FEATURES_S = 60.0  # the quality gate rejects longer recordings, so their log-mels are not computed
MAX_DECODED_S = 600.0  # an hour at 192 kHz would take gigabytes
LIBRARIES = ("numpy", "torch", "soundfile", "soxr", "av")


@dataclass(frozen=True)
class Batch:
    """Consecutive recordings, and the key of their result in the cache."""

    paths: list[str]
    key: str


def run(params: Params, root: Path) -> None:
    """data/manifest.csv -> artifacts/prepared/{manifest.parquet, features.f16, features.json}."""
    source = root / "data" / "manifest.csv"
    rows = read_manifest(source)
    features = params.features
    with written_aside(root / "artifacts" / "prepared") as folder:
        folder.mkdir()
        prepared = prepare(rows, source, features, folder, params.prepare.workers, root / CACHE)
        write_manifest(prepared, folder / MANIFEST)
    write_json(root / "artifacts/metrics/prepare.json", summary(prepared))


def prepare(
    rows: pd.DataFrame, manifest: Path, features: FeatureConfig, folder: Path, workers: int, cache: Path
) -> pd.DataFrame:
    """Write the log-mels of every row to `folder`; returns the rows with their measures and first frames.

    The folder `cache` holds the results of earlier batches; afterwards it holds those of the present ones. Raises
    UserError without any row.
    """
    if rows.empty:
        raise UserError(
            f"{manifest}: no row; add recordings with `metavox corpus add` or `metavox corpus build`"
        )
    batches = _batches(
        [str(resolve(manifest, path)) for path in rows["path"]], rows["path"].tolist(), features
    )
    _process_all(batches, features, workers, cache)
    measured = []
    with (folder / FEATURES).open("wb") as file:
        for batch in batches:
            with (cache / batch.key / FEATURES).open("rb") as mels:
                shutil.copyfileobj(mels, file, 1 << 22)
            measured.append(pd.read_parquet(cache / batch.key / MANIFEST))
    (folder / ABOUT).write_text(json.dumps(asdict(features)))
    _remove_others(cache, {batch.key for batch in batches})
    measures = pd.concat(measured, ignore_index=True).set_index(rows.index)
    measures["first_frame"] = measures["frames"].cumsum() - measures["frames"]
    return pd.concat([rows.drop(columns=measures.columns, errors="ignore"), measures], axis=1)


def prepare_one(path: str, transform: Transform) -> tuple[np.ndarray, dict[str, object]]:
    """Log-mels (frames, width) in float16 and the measures of one recording, by a transform in double precision."""
    config = transform.config
    empty = np.zeros((0, config.width), np.float16)
    try:
        data = read_bytes(path)
        samples, rate = decode(data, path, MAX_DECODED_S)
        if broken := damage(data):
            raise UserError(broken)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")  # the absolute path holds on this machine only
        return empty, {**_unmeasured(), "sample_rate": 0, "error": reason, "content": ""}
    content = hashlib.sha256(data).hexdigest()
    measures = {name: round(value, DECIMALS) for name, value in asdict(measure(samples, rate)).items()}
    about = {**measures, "sample_rate": rate, "error": "", "content": content}
    if len(samples) > MAX_FEATURES_S * rate:
        return empty, about
    mels = extract(resample(samples, rate, config.sample_rate_hz).astype(np.float64), transform)
    return mels.numpy().astype(np.float16), about


def summary(rows: pd.DataFrame) -> dict[str, object]:
    """The size of the prepared corpus, as a DVC metric."""
    hours = rows["duration_s"].sum() / 3600
    real = rows[~rows["synthetic"]]
    return {
        "recordings": len(rows),
        "hours": round(float(hours), 3),
        "hours_recorded": round(float(real["duration_s"].sum() / 3600), 3),
        "speakers_recorded": int(real["speaker"].nunique()),
        "languages_recorded": int(real["language"].nunique()),
        "languages": int(rows["language"].nunique()),
        "undecodable": int((rows["error"] != "").sum()),
    }


def _batches(paths: list[str], names: list[str], features: FeatureConfig) -> list[Batch]:
    """Batches that end where an archive ends, so that a new archive does not change the batches of the others."""
    common = _common(features)
    batches: list[Batch] = []
    start = 0
    for end in range(1, len(paths) + 1):
        full = end - start == BATCH
        if end == len(paths) or full or tar_of(Path(paths[end])) != tar_of(Path(paths[start])):
            total = hashlib.sha256(common)
            for path, name in zip(paths[start:end], names[start:end], strict=True):
                total.update(f"{name}\0{_identity(path)}\n".encode())
            batches.append(Batch(paths[start:end], total.hexdigest()))
            start = end
    return batches


def _common(features: FeatureConfig) -> bytes:
    """What every batch depends on: the features, the code that computes them, and its libraries."""
    modules = (
        bytestream_module,
        channels_module,
        features_module,
        formants_module,
        framing_module,
        intact_module,
        levinson_module,
        measure_module,
        prosody_module,
        read_module,
        sys.modules[__name__],
    )
    code = [hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest() for module in modules]
    return json.dumps([asdict(features), code, [version(name) for name in LIBRARIES]]).encode()


def _identity(path: str) -> str:
    """The digest of the archive or file that a recording is read from; empty if it does not exist."""
    try:
        file = tar_of(Path(path)) or Path(path)
        # Not a pipe, which would never end.
        return _digest(file, file.stat().st_mtime_ns) if file.is_file() else ""
    except OSError:
        return ""


@lru_cache(maxsize=256)
def _digest(file: Path, mtime_ns: int) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _process_all(batches: list[Batch], features: FeatureConfig, workers: int, cache: Path) -> None:
    """Process every batch that is not in `cache` yet."""
    missing = list({batch.key: batch for batch in batches if not (cache / batch.key).is_dir()}.values())
    process = partial(_process, features=features, cache=cache)
    with bar("prepare", sum(len(batch.paths) for batch in missing), "recordings") as progress:
        for batch, _ in zip(missing, _map(process, missing, workers), strict=True):
            progress.advance(len(batch.paths))


def _map(process: "partial[None]", batches: list[Batch], workers: int) -> Iterator[None]:
    if min(workers, len(batches)) <= 1:
        yield from map(process, batches)
        return
    with ProcessPoolExecutor(min(workers, len(batches)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(process, batches)


def _process(batch: Batch, features: FeatureConfig, cache: Path) -> None:
    limit("one of many")
    transform = make_transform(features).double()
    measured = []
    with written_aside(cache / batch.key) as folder:
        folder.mkdir()
        with (folder / FEATURES).open("wb") as file:
            for path in batch.paths:
                mels, about = prepare_one(path, transform)
                file.write(mels.tobytes())
                measured.append({**about, "frames": len(mels)})
        write_manifest(pd.DataFrame(measured), folder / MANIFEST)


def _remove_others(cache: Path, keys: set[str]) -> None:
    for folder in cache.iterdir():
        if folder.name not in keys:
            shutil.rmtree(folder)


def _unmeasured() -> dict[str, float]:
    return dict.fromkeys(Measures.__dataclass_fields__, float("nan"))
