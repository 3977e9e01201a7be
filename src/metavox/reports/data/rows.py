"""The rows of a report: those that the prepare stage has measured, or the rows of any manifest, measured now."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from metavox.audio.measure import Measures, measure
from metavox.audio.read import decode, read_bytes
from metavox.dataset.manifest import COLUMNS, read_manifest, resolve
from metavox.errors import UserError

CHUNK = 64
MAX_DECODED_S = 600.0  # as in the prepare stage; the rest of a longer recording is not decoded
SAME = [
    name for name in COLUMNS if name not in ("duration_s", "sample_rate")
]  # the others are measured again


def prepared_rows(folder: Path, rows: pd.DataFrame) -> pd.DataFrame | None:
    """The prepared manifest in `folder` if it has exactly these rows; None otherwise."""
    path = folder / "manifest.parquet"
    if not path.is_file():
        return None
    prepared = read_manifest(path)
    same = len(prepared) == len(rows) and all(
        (prepared[n].to_numpy() == rows[n].to_numpy()).all() for n in SAME
    )
    return prepared if same else None


def measured(
    rows: pd.DataFrame, manifest: Path, workers: int, progress: Callable[[Iterable[Any], int], Iterable[Any]]
) -> pd.DataFrame:
    """The rows with the measures of the prepare stage: levels, bandwidth, `error`, and the digest `content`.

    `progress(chunks, count)` passes on the chunks and may show progress.
    """
    paths = [str(resolve(manifest, path)) for path in rows["path"]]
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    if workers == 1 or len(chunks) == 1:
        measures = [about for chunk in progress(map(_measure, chunks), len(chunks)) for about in chunk]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            done = progress(pool.map(_measure, chunks), len(chunks))
            measures = [about for chunk in done for about in chunk]
    table = pd.DataFrame(measures, index=rows.index, columns=None if measures else [*_UNMEASURED])
    return pd.concat([rows.drop(columns=table.columns, errors="ignore"), table], axis=1)


_UNMEASURED: dict[str, Any] = {
    **dict.fromkeys(Measures.__dataclass_fields__, float("nan")),
    "sample_rate": 0,
    "error": "",
    "content": "",
}


def _measure(paths: list[str]) -> list[dict[str, Any]]:
    return [_measure_one(path) for path in paths]


def _measure_one(path: str) -> dict[str, Any]:
    try:
        data = read_bytes(path)
        samples, rate = decode(data, path, MAX_DECODED_S)
    except UserError as error:
        return {**_UNMEASURED, "error": str(error).removeprefix(f"{path}: ")}
    return {
        **asdict(measure(samples, rate)),
        "sample_rate": rate,
        "error": "",
        "content": sha256(data).hexdigest(),
    }
