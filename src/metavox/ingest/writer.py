"""New shards beside the old ones, and the manifest last: until then the corpus is what it was.

The shards are written beside the corpus and then renamed into it. A journal names them meanwhile, so that after
a crash the next add knows what to remove, and removes nothing else.
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
from metavox.ingest.ledger import Ledger, place_of
from metavox.ingest.sound import digest, origin, stored

JOURNAL = "journal.json"
MANIFEST = "manifest.csv"


@contextmanager
def locked(into: Path) -> Iterator[None]:
    """One add at a time to a corpus. Raises UserError that says who holds it."""
    path = state(into) / f"{into.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process ends
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{into}: {holder} is adding to it; wait until it is done") from error
        file.truncate(0)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now},")
        file.flush()
        yield


def state(into: Path) -> Path:
    return into.absolute().parent / ".metavox" / "add"


def recover(into: Path) -> list[str]:
    """Remove what an add that was killed left behind: only shards that its journal names and no row does."""
    aside = _aside(into)
    removed = []
    if (aside / JOURNAL).is_file():
        try:
            shards = json.loads((aside / JOURNAL).read_text(encoding="utf-8"))["shards"]
        except (ValueError, KeyError):
            shards = []
        used = set(
            open_corpus(into).rows["path"].str.extract(r"^(shards/[^/]+\.tar)/", expand=False).dropna()
        )
        for shard in shards:
            if shard not in used and (into / shard).is_file():
                (into / shard).unlink()
                removed.append(shard)
    shutil.rmtree(aside, ignore_errors=True)
    for folder in (into / "shards", into):  # where there was no corpus before
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return removed


def write(ledger: Ledger, corpus: Corpus, source: str, top: str, told: Callable[[int], None]) -> list[Path]:
    """Store the rows to take; returns the files that are new, manifest included.

    `top` is the folder that was added: names in the shards are relative to it. Raises UserError when a recording
    changed meanwhile.
    """
    into = corpus.folder.absolute()
    aside = _aside(into)
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "shards").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    files = _stored(ledger, corpus, source, top, rows, told)
    places = write_shards(aside / "shards", source, files, first=_next_number(into / "shards", source))
    for row in rows:
        row["path"] = places[str(row["path"])]
    table = pd.concat([corpus.rows, _texts(rows, list(corpus.rows.columns))], ignore_index=True)
    write_manifest(table.sort_values("path", ignore_index=True, kind="stable"), aside / MANIFEST)
    shards = sorted((aside / "shards").iterdir())
    for path in (*shards, aside / MANIFEST):
        _to_disk(path)
    write_json(aside / JOURNAL, {"shards": [f"shards/{path.name}" for path in shards]})
    (into / "shards").mkdir(parents=True, exist_ok=True)
    placed = []
    for path in shards:
        told(len(rows))
        placed.append(path.rename(into / "shards" / path.name))
    told(len(rows))
    placed.append((aside / MANIFEST).replace(into / MANIFEST))
    told(len(rows))
    shutil.rmtree(aside)
    return placed


def _aside(into: Path) -> Path:
    """On the same disk as the corpus, so that a file can be renamed into it."""
    return into.absolute().with_name(f".{into.name}.adding.partial")


def _stored(
    ledger: Ledger,
    corpus: Corpus,
    source: str,
    top: str,
    rows: list[dict[str, object]],
    told: Callable[[int], None],
) -> Iterator[tuple[str, bytes]]:
    """(name in the shard, bytes), and the row of each appended to `rows`."""
    names = set(
        corpus.rows["path"].str.extract(rf"^shards/{re.escape(source)}-\d+\.tar/(.+)$", expand=False).dropna()
    )
    for _, path, split, what in ledger.taken():
        place, row = place_of(what), what["row"]
        try:
            data = stored(place, what["convert"])
        except (OSError, UserError) as error:
            raise UserError(f"{path}: cannot be read any more ({error}); nothing was added") from error
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            raise UserError(f"{path}: changed while it was added; nothing was added, add it again")
        ending = f".{origin(digest(place), place)}.flac" if what["convert"] else ""
        name = _member(path, place.member or place.file, top, ending)
        if name in names:
            pure = PurePosixPath(name)
            name = str(pure.with_name(f"{row['sha256'][:12]}-{pure.name}"))
        names.add(name)
        rows.append({**row, "path": name, "split": split})
        told(len(rows))
        yield name, data


def _member(path: str, file: str, top: str, ending: str) -> str:
    """A name that is safe in any archive; of a file outside of what is added, only its own name."""
    relative = os.path.relpath(path, top) if os.path.isabs(path) else os.path.normpath(path)
    if relative.startswith(".."):
        relative = os.path.basename(path)
    parts = [re.sub(r"[^\w.+,=@-]+", "_", part).lstrip(".") or "_" for part in relative.split("/")]
    suffix = PurePosixPath(file).suffix
    name = "/".join(parts)
    return (name if ending or name.endswith(suffix) else name + suffix) + ending


def _next_number(shards: Path, source: str) -> int:
    pattern = re.compile(rf"{re.escape(source)}-(\d+)\.tar")
    numbers = [int(match[1]) for path in shards.glob("*.tar") if (match := pattern.fullmatch(path.name))]
    return max(numbers, default=-1) + 1


def _texts(rows: list[dict[str, object]], columns: list[str]) -> pd.DataFrame:
    """As text, as they will stand in the manifest; columns that only the old rows have are empty."""
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(str)
    return table.reindex(columns=columns, fill_value="")


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
