"""The rows that a report is of: those that the prepare stage measured, or any manifest's, measured now."""

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
LONGEST_S = 600.0  # as the prepare stage: more is not decoded, which the gate is told
SAME = [name for name in COLUMNS if name not in ("duration_s", "sample_rate")]  # those are measured again


def prepared_rows(folder: Path, rows: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of a prepared manifest in `folder`, when it is there and of exactly these rows; else None."""
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
    """The rows with what the prepare stage measures of each: levels, band, `error`, and `content`, a digest.

    `progress(chunks, count)` passes the chunks on as they come.
    """
    paths = [str(resolve(manifest, path)) for path in rows["path"]]
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    if workers == 1 or len(chunks) == 1:
        found = [about for chunk in progress(map(_measure, chunks), len(chunks)) for about in chunk]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            done = progress(pool.map(_measure, chunks), len(chunks))
            found = [about for chunk in done for about in chunk]
    table = pd.DataFrame(found, index=rows.index, columns=None if found else [*_NOTHING])
    return pd.concat([rows.drop(columns=table.columns, errors="ignore"), table], axis=1)


_NOTHING: dict[str, Any] = {
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
        samples, rate = decode(data, path, LONGEST_S)
    except UserError as error:
        return {**_NOTHING, "error": str(error).removeprefix(f"{path}: ")}
    return {
        **asdict(measure(samples, rate)),
        "sample_rate": rate,
        "error": "",
        "content": sha256(data).hexdigest(),
    }
