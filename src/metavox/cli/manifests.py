"""The recordings of a labelled manifest, as far as they can be read."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metavox.errors import UserError
from metavox.progress import track

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TRIED = 5  # unreadable recordings before the whole manifest is taken to be wrong
NO_LANGUAGE = ("", "mis", "mul", "und", "zxx")  # ISO 639-2 has codes for what is no one language


@dataclass(frozen=True)
class Labelled:
    """Recordings (samples, one array each) with what is said in them, by whom, in which language, and their paths."""

    samples: "list[np.ndarray]"
    texts: list[str]
    speakers: list[str]
    languages: list[str]
    paths: list[str]


def labelled(manifest: Path) -> "pd.DataFrame":
    """The rows with a text of a table or a folder of recordings; says what was guessed, and what is left out.

    Raises UserError when it cannot be read, or holds no row with a text.
    """
    from metavox.ingest.labelled import read_labelled

    rows = read_labelled(manifest, lambda line: print(f"metavox: {line}", file=sys.stderr))
    found = rows.fillna({"text": "", "speaker": "", "language": ""})
    found = found[found["text"].str.strip() != ""]
    if found.empty:
        raise UserError(f"{manifest}: no row with a text among {len(rows)}; expected labelled recordings")
    return found


def languages_of(rows: "pd.DataFrame") -> list[str]:
    """The languages that the column `language` names, the commonest first."""
    named = rows["language"].str.strip().str.lower()
    return [str(code) for code in named[~named.isin(NO_LANGUAGE)].value_counts().index]


def check_readable(rows: "pd.DataFrame", manifest: Path) -> None:
    """A wrong folder is one clear line, not a lack of clips."""
    from metavox.audio.read import read_bytes
    from metavox.dataset.manifest import resolve

    first = ""
    for path in rows["path"].head(TRIED):
        try:
            read_bytes(resolve(manifest, str(path)))
            return
        except UserError as error:
            first = first or str(error)
    raise UserError(f"{first}, nor any of the next ones; a path is absolute or relative to {manifest}")


def read(rows: "pd.DataFrame", manifest: Path, rate_hz: int) -> Labelled:
    """The rows that can be read; says which cannot. Raises UserError when none can."""
    from metavox.audio.read import read_audio
    from metavox.dataset.manifest import resolve

    found, failed = Labelled([], [], [], [], []), []
    for row in track(list(rows.itertuples()), "reading", unit="recordings"):
        try:
            found.samples.append(read_audio(resolve(manifest, str(row.path)), rate_hz))
        except UserError as error:
            failed.append(str(error))
            continue
        found.texts.append(" ".join(str(row.text).split()))
        found.speakers.append(str(row.speaker).strip())
        found.languages.append(str(row.language).strip().lower())
        found.paths.append(str(row.path))
    if not found.samples:
        raise UserError(f"{failed[0]}; none of {len(failed)} recordings can be read")
    warn_unreadable(failed)
    return found


def warn_unreadable(reasons: list[str]) -> None:
    if reasons:
        print(
            f"metavox: {len(reasons)} recordings cannot be read and are left out; the first: {reasons[0]}",
            file=sys.stderr,
        )
