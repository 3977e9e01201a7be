"""The corpus that is added to: its rows exactly as written, the recordings it holds, and its splits."""

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from metavox.audio.read import read_bytes
from metavox.dataset.manifest import COLUMNS, read_texts, resolve
from metavox.dataset.shards import file_digests
from metavox.errors import UserError
from metavox.quality.indicators import same_words

ORIGIN = re.compile(r"\.([0-9a-f]{16})\.flac$")


@dataclass(frozen=True)
class Claim:
    """The text and speaker that a row of the corpus gives for a recording."""

    words: str
    speaker: str
    path: str
    text: str


@dataclass(frozen=True)
class Corpus:
    folder: Path
    rows: pd.DataFrame  # every column as text, so that writing it again gives the same bytes
    digests: dict[str, str]  # MD5 of every file

    @cached_property
    def claims(self) -> dict[str, list[Claim]]:
        """The claims about each recording, by its SHA-256."""
        claims: dict[str, list[Claim]] = defaultdict(list)
        columns = (self.rows[name] for name in ("sha256", "path", "text", "speaker"))
        for sha256, path, text, speaker in zip(*columns, strict=True):
            claims[sha256 or self._sha256(path)].append(Claim(same_words(text), speaker, path, text))
        return claims

    @cached_property
    def origins(self) -> dict[str, str]:
        """SHA-256 of each recording that was re-encoded, by the digest of its original."""
        recordings = zip(self.rows["path"], self.rows["sha256"], strict=True)
        return {match[1]: sha256 for path, sha256 in recordings if (match := ORIGIN.search(path))}

    def splits_by(self, column: str) -> dict[str, str]:
        """The split of every speaker or speaker group; the first, where one is in several."""
        named = self.rows[(self.rows[column] != "") & (self.rows["split"] != "")]
        return dict(named.drop_duplicates(column)[[column, "split"]].itertuples(index=False))

    def _sha256(self, path: str) -> str:
        """Computed for a row without a digest, as in a manifest written by hand."""
        try:
            return hashlib.sha256(read_bytes(resolve(self.folder / "manifest.csv", path))).hexdigest()
        except UserError:
            return f"missing {path}"


def open_corpus(folder: Path) -> Corpus:
    """The corpus in `folder`; an empty one if there is none yet. Raises UserError if it holds anything else."""
    manifest = folder / "manifest.csv"
    empty = pd.DataFrame({name: pd.Series(dtype=str) for name in COLUMNS})
    if not manifest.is_file():
        if folder.exists() and (not folder.is_dir() or any(path.is_file() for path in folder.rglob("*"))):
            raise UserError(f"{folder}: not a corpus, and not empty (no manifest.csv); choose another --into")
        return Corpus(folder, empty, {})
    rows = read_texts(manifest)
    rows = rows.assign(**{name: "" for name in COLUMNS if name not in rows.columns})
    return Corpus(folder, rows, file_digests(folder))
