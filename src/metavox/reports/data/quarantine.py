"""The quarantine in the data report: recordings by reason, examples, and a few clips to see and hear."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from metavox.audio.read import decode, read_bytes, resample
from metavox.dataset.manifest import resolve
from metavox.errors import UserError
from metavox.quality import Verdict
from metavox.reports.data.plots import spectrogram
from metavox.reports.data.rows import MAX_DECODED_S
from metavox.reports.data.text import OF_A_RECORDING
from metavox.reports.render import Table, data_uri
from metavox.reports.wording import records

EXAMPLES, MAX_EXAMPLES = 3, 30  # per reason, in all
TEXT = 80  # characters
CLIPS, CLIP_S, RATE_HZ = 6, 4.0, 16000  # at most 130 kB each


def quarantine_section(verdict: Verdict, manifest: Path) -> dict[str, Any] | None:
    """Tables of reasons and examples, and some clips; paths are relative to `manifest`. None if it is empty."""
    rows = verdict.quarantine
    if rows.empty:
        return None
    reasons = [
        [name, f"{count:,}", OF_A_RECORDING.get(name, "")]
        for name, count in dict(verdict.statistics["reasons"]).items()
    ]
    cells = [
        [row["path"], row["reasons"], row["speaker"], _short(row["text"])] for row in records(examples(rows))
    ]
    return {
        "count": f"{len(rows):,}",
        "reasons": Table("Recordings by reason", ["reason", "recordings", "meaning and remedy"], reasons),
        "examples": Table(
            f"Examples, up to {EXAMPLES} per reason",
            ["recording", "measured value and limit", "speaker", "text"],
            cells,
        ),
        "clips": _clips(rows, manifest),
        "clip_s": f"{CLIP_S:g}",
    }


def examples(rows: pd.DataFrame) -> pd.DataFrame:
    """Up to EXAMPLES rows of each reason, spread over all of its rows."""
    kinds = kinds_of(rows)
    chosen: list[int] = []
    for kind in kinds.value_counts().index:
        places = np.flatnonzero(kinds == kind)
        chosen += [int(places[i]) for i in np.unique(np.linspace(0, len(places) - 1, EXAMPLES).astype(int))]
    return rows.iloc[chosen[:MAX_EXAMPLES]]


def kinds_of(rows: pd.DataFrame) -> "pd.Series[str]":
    """The first check that a row failed; where the checks are not named, its reason without the figures."""
    if "checks" in rows.columns:
        return rows["checks"].str.split("; ").str[0]
    return rows["reasons"].map(
        lambda text: re.sub(r"'[^']*'|[\d.]+|same recording.*", "", text.split("; ")[0])
    )


def _clips(rows: pd.DataFrame, manifest: Path) -> list[dict[str, Any]]:
    """A few clips; every reason has one before any has a second."""
    kinds = kinds_of(rows)
    turn = kinds.groupby(kinds).cumcount().to_numpy()
    out: list[dict[str, Any]] = []
    for place in np.lexsort((np.arange(len(rows)), turn)):
        shown = _clip(records(rows.iloc[[place]])[0], manifest)
        if shown:
            out.append(shown)
        if len(out) == CLIPS or turn[place] >= CLIPS:
            break
    return out


def _clip(row: dict[str, Any], manifest: Path) -> dict[str, Any] | None:
    """Spectrogram, sound and reasons of one recording; None if the file is missing or cannot be decoded."""
    try:
        path = resolve(manifest, str(row["path"]))
        decoded, rate = decode(read_bytes(path), str(path), MAX_DECODED_S)
    except (UserError, OSError):
        return None
    samples = resample(decoded[: int(CLIP_S * rate)], rate, RATE_HZ)
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1.0, 1.0), RATE_HZ, format="FLAC", subtype="PCM_16")
    return {
        "chart": spectrogram(samples, RATE_HZ, f"Spectrogram of {row['path']}: {row['reasons']}"),
        "sound": data_uri(file.getvalue(), "audio/flac"),
        "path": row["path"],
        "reasons": row["reasons"],
        "text": _short(str(row["text"])),
        "speaker": row["speaker"],
    }


def _short(text: str) -> str:
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"
