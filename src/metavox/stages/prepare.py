"""prepare: every recording decoded, measured, and turned into log-mels, once.

A recording that cannot be decoded keeps its row, with the reason in `error`: the gate decides about it.

The manifest is cut into parts, and what was made of a part is kept in `.metavox/prepared` under a key of its
recordings, the features and the code: after a few recordings were added, or an interruption, only the parts
that are new are decoded.

Processors add and multiply in different orders, so that all is computed in double precision and rounded to far less:
log-mels to half precision, measures to six decimals. That makes the same bytes on any x86-64.
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

PART = 256  # recordings
DECIMALS = 6  # of a measure
KEPT = Path(".metavox/prepared")
MAX_FEATURES_S = 60.0  # longer recordings are for the gate to judge, not to be held in memory
MAX_DECODED_S = 600.0  # an hour at 192 kHz is gigabytes
LIBRARIES = ("numpy", "torch", "soundfile", "soxr", "av")


@dataclass(frozen=True)
class Part:
    """Consecutive recordings, and the key of what is made of them."""

    paths: list[str]
    key: str


def run(params: Params, root: Path) -> None:
    """data/manifest.csv -> artifacts/prepared/{manifest.parquet, features.f16, features.json}."""
    source = root / "data" / "manifest.csv"
    rows = read_manifest(source)
    features = params.features
    with written_aside(root / "artifacts" / "prepared") as folder:
        folder.mkdir()
        prepared = prepare(rows, source, features, folder, params.prepare.workers, root / KEPT)
        write_manifest(prepared, folder / MANIFEST)
    write_json(root / "artifacts/metrics/prepare.json", summary(prepared))


def prepare(
    rows: pd.DataFrame, manifest: Path, features: FeatureConfig, folder: Path, workers: int, kept: Path
) -> pd.DataFrame:
    """Write the log-mels of every row to `folder`; the rows with what was measured, and where theirs are.

    `kept` holds what was made of each part before, and afterwards what was made of these.
    """
    if rows.empty:
        raise UserError(f"{manifest}: no row; expected at least one recording")
    parts = _parts([str(resolve(manifest, path)) for path in rows["path"]], rows["path"].tolist(), features)
    _make(parts, features, workers, kept)
    measured = []
    with (folder / FEATURES).open("wb") as file:
        for part in parts:
            with (kept / part.key / FEATURES).open("rb") as mels:
                shutil.copyfileobj(mels, file, 1 << 22)
            measured.append(pd.read_parquet(kept / part.key / MANIFEST))
    (folder / ABOUT).write_text(json.dumps(asdict(features)))
    _forget(kept, {part.key for part in parts})
    found = pd.concat(measured, ignore_index=True).set_index(rows.index)
    found["first_frame"] = found["frames"].cumsum() - found["frames"]
    return pd.concat([rows.drop(columns=found.columns, errors="ignore"), found], axis=1)


def prepare_one(path: str, transform: Transform) -> tuple[np.ndarray, dict[str, object]]:
    """One recording to (log-mels (frames, mels) float16, its measures), by a transform in double precision."""
    config = transform.config
    empty = np.zeros((0, config.width), np.float16)
    try:
        data = read_bytes(path)
        samples, rate = decode(data, path, MAX_DECODED_S)
        if broken := damage(data):
            raise UserError(broken)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")  # the row says which file; its place is this machine's
        return empty, {**_unmeasured(), "sample_rate": 0, "error": reason, "content": ""}
    content = hashlib.sha256(data).hexdigest()
    measures = {name: round(value, DECIMALS) for name, value in asdict(measure(samples, rate)).items()}
    about = {**measures, "sample_rate": rate, "error": "", "content": content}
    if len(samples) > MAX_FEATURES_S * rate:
        return empty, about
    mels = extract(resample(samples, rate, config.sample_rate_hz).astype(np.float64), transform)
    return mels.numpy().astype(np.float16), about


def summary(rows: pd.DataFrame) -> dict[str, object]:
    """What the prepared corpus holds, for people and as a DVC metric."""
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


def _parts(paths: list[str], names: list[str], features: FeatureConfig) -> list[Part]:
    """Cut at the ends of archives, so that a new archive leaves the parts of the others as they were."""
    common = _common(features)
    parts: list[Part] = []
    start = 0
    for end in range(1, len(paths) + 1):
        full = end - start == PART
        if end == len(paths) or full or tar_of(Path(paths[end])) != tar_of(Path(paths[start])):
            total = hashlib.sha256(common)
            for path, name in zip(paths[start:end], names[start:end], strict=True):
                total.update(f"{name}\0{_identity(path)}\n".encode())
            parts.append(Part(paths[start:end], total.hexdigest()))
            start = end
    return parts


def _common(features: FeatureConfig) -> bytes:
    """What every part depends on: the features, the code that makes them, and its libraries."""
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
    """The digest of the archive or file that a recording is read from; empty where there is none."""
    try:
        file = tar_of(Path(path)) or Path(path)
        return _digest(file, file.stat().st_mtime_ns) if file.is_file() else ""  # a pipe would never end
    except OSError:
        return ""


@lru_cache(maxsize=256)
def _digest(file: Path, mtime_ns: int) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _make(parts: list[Part], features: FeatureConfig, workers: int, kept: Path) -> None:
    """Every part that is not in `kept` yet."""
    missing = list({part.key: part for part in parts if not (kept / part.key).is_dir()}.values())
    make = partial(_make_part, features=features, kept=kept)
    with bar("prepare", sum(len(part.paths) for part in missing), "recordings") as progress:
        for part, _ in zip(missing, _mapped(make, missing, workers), strict=True):
            progress.advance(len(part.paths))


def _mapped(make: "partial[None]", parts: list[Part], workers: int) -> Iterator[None]:
    if min(workers, len(parts)) <= 1:
        yield from map(make, parts)
        return
    with ProcessPoolExecutor(min(workers, len(parts)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(make, parts)


def _make_part(part: Part, features: FeatureConfig, kept: Path) -> None:
    limit("one of many")
    transform = make_transform(features).double()
    measured = []
    with written_aside(kept / part.key) as folder:
        folder.mkdir()
        with (folder / FEATURES).open("wb") as file:
            for path in part.paths:
                mels, about = prepare_one(path, transform)
                file.write(mels.tobytes())
                measured.append({**about, "frames": len(mels)})
        write_manifest(pd.DataFrame(measured), folder / MANIFEST)


def _forget(kept: Path, keys: set[str]) -> None:
    for folder in kept.iterdir():
        if folder.name not in keys:
            shutil.rmtree(folder)


def _unmeasured() -> dict[str, float]:
    return dict.fromkeys(Measures.__dataclass_fields__, float("nan"))
