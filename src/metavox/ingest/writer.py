"""Writes new shards beside the old ones, and the manifest last: until then the corpus is what it was.

The shards are written to a staging folder beside the corpus and then renamed into it. Meanwhile a journal lists
them, so that after a crash the next add knows which files to remove, and removes no others.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath

import pandas as pd

from metavox.dataset.manifest import COLUMNS, write_manifest
from metavox.dataset.shards import write_shards
from metavox.errors import UserError
from metavox.files import write_json
from metavox.ingest.existing import Corpus, open_corpus
from metavox.ingest.inspection import digest, encoded, origin
from metavox.ingest.ledger import Ledger, location_of

JOURNAL = "journal.json"
MANIFEST = "manifest.csv"


@contextmanager
def lock_corpus(into: Path) -> Iterator[None]:
    """Allow only one add to a corpus at a time. Raises UserError that names the process holding the lock."""
    path = state_folder(into) / f"{into.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(
                file, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # released when the process ends, however it ends
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{into}: {holder} is adding to it; wait until it is done") from error
        file.truncate(0)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now},")
        file.flush()
        yield


def state_folder(into: Path) -> Path:
    """Where the lock and the list of refused rows are, beside the corpus."""
    return into.absolute().parent / ".metavox" / "add"


def recover(into: Path) -> None:
    """Remove what a killed add left behind: only shards that its journal lists and no row refers to."""
    staging = _staging_folder(into)
    if (staging / JOURNAL).is_file():
        try:
            shards = json.loads((staging / JOURNAL).read_text(encoding="utf-8"))["shards"]
        except (ValueError, KeyError):
            shards = []
        paths = open_corpus(into).rows["path"]
        used = set(paths.str.extract(r"^(shards/[^/]+\.tar)/", expand=False).dropna())
        for shard in shards:
            if shard not in used and (into / shard).is_file():
                (into / shard).unlink()
    shutil.rmtree(staging, ignore_errors=True)
    for folder in (into / "shards", into):  # empty if there was no corpus before
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def write(
    ledger: Ledger, corpus: Corpus, source: str, top: str, progress: Callable[[int], None]
) -> list[Path]:
    """Store the accepted rows; returns the new files, including the manifest.

    `top` is the folder being added: names in the shards are relative to it. Raises UserError if a recording has
    changed since it was checked.
    """
    into = corpus.folder.absolute()
    staging = _staging_folder(into)
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "shards").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    files = _files(ledger, corpus, source, top, rows, progress)
    first = _next_shard_number(into / "shards", source)
    paths = write_shards(staging / "shards", source, files, first=first)
    for row in rows:
        row["path"] = paths[str(row["path"])]
    table = pd.concat([corpus.rows, _as_text(rows, list(corpus.rows.columns))], ignore_index=True)
    write_manifest(table.sort_values("path", ignore_index=True, kind="stable"), staging / MANIFEST)
    shards = sorted((staging / "shards").iterdir())
    for path in (*shards, staging / MANIFEST):
        _sync_to_disk(path)
    write_json(staging / JOURNAL, {"shards": [f"shards/{path.name}" for path in shards]})
    (into / "shards").mkdir(parents=True, exist_ok=True)
    written = []
    for path in shards:
        progress(len(rows))
        written.append(path.rename(into / "shards" / path.name))
    progress(len(rows))
    written.append((staging / MANIFEST).replace(into / MANIFEST))
    progress(len(rows))
    shutil.rmtree(staging)
    return written


def _staging_folder(into: Path) -> Path:
    """On the same disk as the corpus, so that files can be renamed into it."""
    return into.absolute().with_name(f".{into.name}.adding.partial")


def _files(
    ledger: Ledger,
    corpus: Corpus,
    source: str,
    top: str,
    rows: list[dict[str, object]],
    progress: Callable[[int], None],
) -> Iterator[tuple[str, bytes]]:
    """(name in the shard, bytes) of each accepted recording; appends its manifest row to `rows`."""
    paths = corpus.rows["path"]
    names = set(paths.str.extract(rf"^shards/{re.escape(source)}-\d+\.tar/(.+)$", expand=False).dropna())
    for _, path, split, details in ledger.accepted():
        location, row = location_of(details), details["row"]
        try:
            data = encoded(location, details["convert"])
        except (OSError, UserError) as error:
            raise UserError(f"{path}: can no longer be read ({error}); nothing was added") from error
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise UserError(f"{path}: changed during the add; nothing was added, run the command again")
        suffix = f".{origin(digest(location), location)}.flac" if details["convert"] else ""
        name = _member_name(path, location.name, top, suffix)
        if name in names:
            pure = PurePosixPath(name)
            name = str(pure.with_name(f"{row['sha256'][:12]}-{pure.name}"))
        names.add(name)
        rows.append({**row, "path": name, "split": split})
        progress(len(rows))
        yield name, data


def _member_name(path: str, file: str, top: str, suffix: str) -> str:
    """A name that is safe in any archive, relative to `top`; only the file name for a file outside of it."""
    relative = os.path.relpath(path, top) if os.path.isabs(path) else os.path.normpath(path)
    if relative.startswith(".."):
        relative = os.path.basename(path)
    name = "/".join(re.sub(r"[^\w.+,=@-]+", "_", part).lstrip(".") or "_" for part in relative.split("/"))
    original_suffix = PurePosixPath(file).suffix
    return (name if suffix or name.endswith(original_suffix) else name + original_suffix) + suffix


def _next_shard_number(shards: Path, source: str) -> int:
    pattern = re.compile(rf"{re.escape(source)}-(\d+)\.tar")
    numbers = [int(match[1]) for path in shards.glob("*.tar") if (match := pattern.fullmatch(path.name))]
    return max(numbers, default=-1) + 1


def _as_text(rows: list[dict[str, object]], columns: list[str]) -> pd.DataFrame:
    """The rows as text, as the manifest will hold them; empty in columns that only the existing rows have."""
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(str)
    return table.reindex(columns=columns, fill_value="")


def _sync_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
