"""Add recordings to a corpus: read, settle, write. Nothing is written before everything is settled."""

import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metavox.dataset.manifest import read_manifest
from metavox.dataset.shards import file_digests, folder_digest
from metavox.dataset.tables import TableFault
from metavox.errors import UserError, printable
from metavox.ingest.existing import Corpus, open_corpus
from metavox.ingest.incoming import AddOptions, Given, SourceFault
from metavox.ingest.layouts import read, root_of, swept
from metavox.ingest.ledger import Ledger
from metavox.ingest.row_checks import Taker
from metavox.ingest.set_checks import settle
from metavox.ingest.tree import forget
from metavox.ingest.writer import locked, recover, write
from metavox.params import Validate
from metavox.quality import SPLITS, Fault
from metavox.sources import SOURCES

Progress = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, of how much; 0 where nobody knows)"""
BUILT = frozenset((*SOURCES, "espeak"))  # what `corpus build` writes and would write again


@dataclass
class Added:
    """What became of everything that was given. Close it when it was read: its rows are on disk."""

    layout: str  # and what it was told by
    source: str
    before: str
    after: str | None
    faults: list[Fault]
    warnings: list[Fault]
    ignored: int
    ledger: Ledger

    def __enter__(self) -> "Added":
        return self

    def __exit__(self, *error: object) -> None:
        self.ledger.close()

    @property
    def counts(self) -> dict[str, int]:
        return self.ledger.count()

    def take(self) -> Iterator[dict[str, Any]]:
        for _, path, split, what in self.ledger.taken():
            row = what["row"]
            kept = {name: row[name] for name in ("text", "speaker", "language")}
            yield {
                "path": path,
                **kept,
                "split": split,
                "sha256": row["sha256"],
                "duration_s": row["duration_s"],
                "notes": list(what["notes"]),
            }

    def have(self) -> Iterator[dict[str, Any]]:
        for path in self.ledger.had():
            yield {"path": path}

    def refuse(self) -> Iterator[dict[str, Any]]:
        for path, line, reasons in self.ledger.refused():
            yield {"path": path, "line": line, "reasons": reasons}

    def parts(self) -> dict[str, Any]:
        """What `--json` holds; the long lists as iterators."""
        return {
            "version": {"before": self.before, "after": self.after},
            "layout": self.layout,
            "take": self.take(),
            "have": self.have(),
            "refuse": self.refuse(),
            "faults": [vars(fault) for fault in self.faults],
            "warnings": [vars(fault) for fault in self.warnings],
            "counts": self.counts,
            "ignored": self.ignored,
        }

    def as_json(self) -> dict[str, Any]:
        return {
            name: list(part) if isinstance(part, Iterator) else part for name, part in self.parts().items()
        }


def add(
    source: Path, options: AddOptions, into: Path, limits: Validate, dry_run: bool, progress: Progress
) -> Added:
    """Take what is fit into the corpus `into`; with `dry_run` only tell what would be taken.

    Faults of the whole are in `Added.faults`, and then nothing is written. Raises UserError when `into` is no
    corpus, another add is at work on it, or a recording changes meanwhile.
    """
    into = into.absolute()
    if dry_run:
        return _add(source, options, into, limits, True, progress)
    with locked(into):
        recover(into)
        return _add(source, options, into, limits, False, progress)


def _add(
    source: Path, options: AddOptions, into: Path, limits: Validate, dry_run: bool, progress: Progress
) -> Added:
    corpus = open_corpus(into)
    forget()
    given = Given(root_of(source), options)
    added = Added(
        options.layout, "", folder_digest(corpus.digests) if corpus.digests else "", None, [], [], 0, Ledger()
    )
    try:
        _check_root(given.root)
        added.source = _named(options.name or given.root.resolve().name.split(".")[0])
        if options.split not in ("", *SPLITS):
            raise SourceFault("split", f"--split {options.split}: expected one of {', '.join(SPLITS)}")
        _read(given, added, corpus, limits, progress)
        added.faults, warnings = settle(added.ledger, corpus, limits)
        added.warnings = given.warnings + warnings
        added.ignored = given.ignored
        if not dry_run and not added.faults and added.counts["take"]:
            _write(given, added, corpus, progress)
    except (SourceFault, TableFault) as fault:
        added.faults = [Fault(fault.name, str(fault))]
    except BaseException:
        added.ledger.close()
        raise
    return added


def _read(given: Given, added: Added, corpus: Corpus, limits: Validate, progress: Progress) -> None:
    taker = Taker(corpus, given.options, limits, added.source, added.ledger)
    rows, added.layout = read(given)
    taker.take(rows, lambda done: progress("hearing", done, 0))
    if not any(added.counts.values()):
        raise SourceFault("no row", f"{given.root}: no recording is named in it; expected at least one")
    if given.sweep:
        taker.take(
            swept(given, added.ledger.knows), lambda done: progress("looking for files no row names", done, 0)
        )


def _write(given: Given, added: Added, corpus: Corpus, progress: Progress) -> None:
    total = added.counts["take"]
    try:
        new = write(
            added.ledger,
            corpus,
            added.source,
            str(given.folder),
            lambda done: progress("storing", done, total),
        )
    except OSError as error:
        recover(corpus.folder)
        raise UserError(
            f"{corpus.folder}: cannot be written ({error.strerror}); it is what it was"
        ) from error
    added.after = folder_digest({**corpus.digests, **file_digests(corpus.folder, new)})


def _check_root(root: Path) -> None:
    """Raises SourceFault where the path leads nowhere, as a symbolic link to itself does, or is not UTF-8."""
    if printable(str(root)) != str(root):
        raise SourceFault(
            "name", f"{root}: the name is not UTF-8; rename it, or give the folder another path"
        )
    try:
        root.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SourceFault("no such path", f"{root}: a symbolic link that leads back to itself") from error


def _named(name: str) -> str:
    """The name made safe for a file. Raises SourceFault for one that a build would overwrite."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.").lower()
    if not safe or safe in BUILT:
        why = "is a source of corpus build" if safe else "has no letter"
        raise SourceFault("name", f"--name {name}: {why}; choose another --name")
    return safe


def added_sources(into: Path) -> list[str]:
    """The sources in a corpus that no build makes."""
    names = read_manifest(into / "manifest.csv")["source"].unique()
    return sorted(str(name) or "rows without a source" for name in names if name not in BUILT)
