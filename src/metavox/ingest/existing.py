"""The corpus that is added to: its rows as they are written, what it holds already, and on which side."""

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
    """What a row of the corpus says of a recording."""

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
        """By the SHA-256 of the recording."""
        claims: dict[str, list[Claim]] = defaultdict(list)
        columns = (self.rows[name] for name in ("sha256", "path", "text", "speaker"))
        for sha256, path, text, speaker in zip(*columns, strict=True):
            claims[sha256 or self._sha256(path)].append(Claim(same_words(text), speaker, path, text))
        return claims

    @cached_property
    def origins(self) -> dict[str, str]:
        """SHA-256 of what was stored anew, by the digest of what it was made from."""
        found = zip(self.rows["path"], self.rows["sha256"], strict=True)
        return {match[1]: sha256 for path, sha256 in found if (match := ORIGIN.search(path))}

    def sides(self, column: str) -> dict[str, str]:
        """The split of every speaker, or person; the first, where it is on several."""
        named = self.rows[(self.rows[column] != "") & (self.rows["split"] != "")]
        return dict(named.drop_duplicates(column)[[column, "split"]].itertuples(index=False))

    def _sha256(self, path: str) -> str:
        """Of a row that does not say it, as in a manifest written by hand."""
        try:
            return hashlib.sha256(read_bytes(resolve(self.folder / "manifest.csv", path))).hexdigest()
        except UserError:
            return f"missing {path}"


def open_corpus(folder: Path) -> Corpus:
    """The corpus in `folder`; an empty one where there is none yet. Raises UserError for anything else there."""
    manifest = folder / "manifest.csv"
    empty = pd.DataFrame({name: pd.Series(dtype=str) for name in COLUMNS})
    if not manifest.is_file():
        if folder.exists() and (not folder.is_dir() or any(path.is_file() for path in folder.rglob("*"))):
            raise UserError(
                f"{folder}: holds something that is no corpus (no manifest.csv); choose another --into"
            )
        return Corpus(folder, empty, {})
    rows = read_texts(manifest)
    rows = rows.assign(**{name: "" for name in COLUMNS if name not in rows.columns})
    return Corpus(folder, rows, file_digests(folder))
