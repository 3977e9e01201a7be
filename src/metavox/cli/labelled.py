"""The recordings of a labelled manifest, as far as they can be read."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from metavox.cli.screen import track
from metavox.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from metavox.cli.listening import Listener

TRIED = 5  # unreadable recordings before the whole manifest is taken to be wrong


def labelled(rows: "pd.DataFrame", manifest: Path) -> "pd.DataFrame":
    """Rows with a text. Raises UserError when there is none."""
    found = rows.fillna({"text": "", "voice": "", "language": ""})
    found = found[found["text"].str.strip() != ""]
    if found.empty:
        raise UserError(f"{manifest}: no row with a text among {len(rows)}; expected labelled recordings")
    return found


def check_readable(rows: "pd.DataFrame", manifest: Path) -> None:
    """A wrong folder is one clear line, not a lack of clips."""
    from metavox.audio.read import read_bytes
    from metavox.corpus.manifest import resolve

    first = ""
    for path in rows["path"].head(TRIED):
        try:
            read_bytes(resolve(manifest, str(path)))
            return
        except UserError as error:
            first = first or str(error)
    raise UserError(f"{first}, nor any of the next ones; a path is absolute or relative to {manifest}")


def clips(
    rows: "pd.DataFrame", manifest: Path, listener: "Listener"
) -> tuple[list[str], list[str], list["np.ndarray"]]:
    """Texts, voices and samples of the rows that can be read; says which cannot. Raises UserError when none can."""
    from metavox.audio.read import read_audio
    from metavox.corpus.manifest import resolve

    texts, voices, samples, failed = [], [], [], []
    for row in track(list(rows.itertuples()), "reading"):
        try:
            samples.append(read_audio(resolve(manifest, str(row.path)), listener.rate))
            texts.append(" ".join(str(row.text).split()))
            voices.append(str(row.voice).strip())
        except UserError as error:
            failed.append(str(error))
    if not samples:
        raise UserError(f"{failed[0]}; none of {len(failed)} recordings can be read")
    warn_unreadable(failed)
    return texts, voices, samples


def warn_unreadable(reasons: list[str]) -> None:
    if reasons:
        print(
            f"metavox: {len(reasons)} recordings cannot be read and are left out; the first: {reasons[0]}",
            file=sys.stderr,
        )
