"""Read the recordings of a labelled manifest and report those that cannot be read."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metavox.errors import UserError
from metavox.progress import track

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MAX_TRIED = 5  # if so many recordings in a row cannot be read, the manifest's paths are wrong
NO_LANGUAGE = ("", "mis", "mul", "und", "zxx")  # empty, and the ISO 639-2 codes that name no single language


@dataclass(frozen=True)
class Labelled:
    """Recordings (samples (time,) each) with their texts, speakers, languages and paths."""

    samples: "list[np.ndarray]"
    texts: list[str]
    speakers: list[str]
    languages: list[str]
    paths: list[str]


def labelled(manifest: Path) -> "pd.DataFrame":
    """The rows with a text in a table or a folder of recordings; prints what was inferred and what is skipped.

    Raises UserError if it cannot be read or has no row with a text.
    """
    from metavox.ingest.labelled import read_labelled

    rows = read_labelled(manifest, lambda line: print(f"metavox: {line}", file=sys.stderr))
    filled = rows.fillna({"text": "", "speaker": "", "language": ""})
    with_text = filled[filled["text"].str.strip() != ""]
    if with_text.empty:
        raise UserError(f"{manifest}: none of {len(rows)} rows has a text; expected labelled recordings")
    return with_text


def languages_of(rows: "pd.DataFrame") -> list[str]:
    """The languages in the column `language`, most frequent first."""
    named = rows["language"].str.strip().str.lower()
    return [str(code) for code in named[~named.isin(NO_LANGUAGE)].value_counts().index]


def check_readable(rows: "pd.DataFrame", manifest: Path) -> None:
    """Raise UserError if the first recordings cannot be read, which means that the paths are wrong."""
    from metavox.audio.read import read_bytes
    from metavox.dataset.manifest import resolve

    first = ""
    for path in rows["path"].head(MAX_TRIED):
        try:
            read_bytes(resolve(manifest, str(path)))
            return
        except UserError as error:
            first = first or str(error)
    raise UserError(
        f"{first}, nor can the next ones be read; expected paths that are absolute or relative to {manifest}"
    )


def read(rows: "pd.DataFrame", manifest: Path, rate_hz: int) -> Labelled:
    """Read the recordings at `rate_hz`; print how many cannot be read. Raises UserError if none can."""
    from metavox.audio.read import read_audio
    from metavox.dataset.manifest import resolve

    recordings, failures = Labelled([], [], [], [], []), []
    for row in track(list(rows.itertuples()), "reading", unit="recordings"):
        try:
            recordings.samples.append(read_audio(resolve(manifest, str(row.path)), rate_hz))
        except UserError as error:
            failures.append(str(error))
            continue
        recordings.texts.append(" ".join(str(row.text).split()))
        recordings.speakers.append(str(row.speaker).strip())
        recordings.languages.append(str(row.language).strip().lower())
        recordings.paths.append(str(row.path))
    if not recordings.samples:
        raise UserError(f"{failures[0]}; none of {len(failures)} recordings can be read; check the paths")
    warn_unreadable(failures)
    return recordings


def warn_unreadable(reasons: list[str]) -> None:
    """Print how many recordings cannot be read, and the first reason."""
    if reasons:
        print(
            f"metavox: skipping {len(reasons)} recordings that cannot be read; the first: {reasons[0]}",
            file=sys.stderr,
        )
