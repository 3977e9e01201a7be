"""The quarantine for people: how many of each reason, examples, and a few clips to see and hear."""

import io
import re
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from metavox.audio.read import decode, read_bytes, resample
from metavox.dataset.manifest import resolve
from metavox.errors import UserError
from metavox.quality import Verdict
from metavox.reports.charts import data_uri
from metavox.reports.data.plots import spectrogram
from metavox.reports.data.rows import LONGEST_S
from metavox.reports.data.text import OF_A_RECORDING
from metavox.reports.page import table
from metavox.reports.wording import records

EXAMPLES, MOST_EXAMPLES = 3, 30  # of a reason, in all
TEXT = 80  # letters
CLIPS, CLIP_S, RATE_HZ = 6, 4.0, 16000  # to hear: at most 6 times 130 kB


def quarantine_section(verdict: Verdict, manifest: Path) -> str:
    """Tables by reason and of examples, and some clips; `manifest` is what paths are relative to."""
    rows = verdict.quarantine
    if rows.empty:
        return "<p>No recording was set aside.</p>"
    reasons = [
        [name, f"{count:,}", OF_A_RECORDING.get(name, "")]
        for name, count in dict(verdict.statistics["reasons"]).items()
    ]
    shown = examples(rows)
    cells = [[row["path"], row["reasons"], row["voice"], _short(row["text"])] for row in records(shown)]
    return (
        f"<p>{len(rows):,} recordings were set aside. None is deleted: mend the recording, its text or the limit "
        "and run the stage again. A recording with several reasons counts for each.</p>"
        + table(
            "Why recordings were set aside", ["reason", "recordings", "what it means, what to do"], reasons
        )
        + table(
            f"Examples, up to {EXAMPLES} of each reason",
            ["recording", "measured, and the limit", "voice", "text"],
            cells,
        )
        + _clips(rows, manifest)
    )


def examples(rows: pd.DataFrame) -> pd.DataFrame:
    """Up to three rows of each reason, spread over those it has."""
    kinds = kinds_of(rows)
    chosen: list[int] = []
    for kind in kinds.value_counts().index:
        places = np.flatnonzero(kinds == kind)
        chosen += [int(places[i]) for i in np.unique(np.linspace(0, len(places) - 1, EXAMPLES).astype(int))]
    return rows.iloc[chosen[:MOST_EXAMPLES]]


def kinds_of(rows: pd.DataFrame) -> "pd.Series[str]":
    """The first check that a row failed; where the checks are not named, its reason without the figures."""
    if "checks" in rows.columns:
        return rows["checks"].str.split("; ").str[0]
    return rows["reasons"].map(
        lambda text: re.sub(r"'[^']*'|[\d.]+|same recording.*", "", text.split("; ")[0])
    )


def _clips(rows: pd.DataFrame, manifest: Path) -> str:
    """A few clips, of every reason one before any has a second."""
    kinds = kinds_of(rows)
    turn = kinds.groupby(kinds).cumcount().to_numpy()
    out = []
    for place in np.lexsort((np.arange(len(rows)), turn)):
        shown = _clip(records(rows.iloc[[place]])[0], manifest)
        if shown:
            out.append(shown)
        if len(out) == CLIPS or turn[place] >= CLIPS:
            break
    if not out:
        return (
            "<p class=soft>The recordings are not on this machine, so there is none to see or hear here.</p>"
        )
    return (
        f"<h3>Some of them, to see and hear</h3><p class=soft>The first {CLIP_S:g} s, at 16 kHz.</p>"
        + "".join(out)
    )


def _clip(row: dict[str, object], manifest: Path) -> str:
    """A picture, a player and why; "" for what is not there or cannot be decoded."""
    try:
        path = resolve(manifest, str(row["path"]))
        whole, rate = decode(read_bytes(path), str(path), LONGEST_S)
    except (UserError, OSError):
        return ""
    samples = resample(whole[: int(CLIP_S * rate)], rate, RATE_HZ)
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1.0, 1.0), RATE_HZ, format="FLAC", subtype="PCM_16")
    says = f"Spectrogram of {row['path']}: {row['reasons']}"
    return (
        f"<figure>{spectrogram(samples, RATE_HZ, says).html()}"
        f'<audio controls preload="none" src="{data_uri(file.getvalue(), "audio/flac")}" '
        f'aria-label="{escape(str(row["path"]))}"></audio>'
        f"<figcaption><b>{escape(str(row['reasons']))}</b><br>{escape(str(row['path']))}: "
        f"“{escape(_short(str(row['text'])))}”, voice {escape(str(row['voice']))}</figcaption></figure>"
    )


def _short(text: str) -> str:
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"
