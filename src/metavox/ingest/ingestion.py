"""Adding recordings to a corpus: read, check, write. Nothing is written until everything has been checked."""

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
from metavox.ingest.file_tree import clear_path_cache
from metavox.ingest.incoming import AddOptions, ReadContext, SourceFault
from metavox.ingest.layouts import absolute, read, unlisted_files
from metavox.ingest.ledger import Ledger
from metavox.ingest.row_checks import RowChecker
from metavox.ingest.set_checks import check_set
from metavox.ingest.writer import lock_corpus, recover, write
from metavox.params import Validate
from metavox.quality import SPLITS, Fault
from metavox.sources import SOURCES

Progress = Callable[[str, int, int], None]
"""Called with (description of the step, rows done, rows in total; 0 if the total is unknown)."""
BUILT_SOURCES = frozenset((*SOURCES, "espeak"))  # `corpus build` writes these, and would overwrite them


@dataclass
class AddResult:
    """The outcome of every row. Its rows are on disk: close it when they have been read."""

    layout: str  # with the evidence that it was detected by
    source: str
    before: str
    after: str | None
    faults: list[Fault]
    warnings: list[Fault]
    ignored: int
    ledger: Ledger

    def __enter__(self) -> "AddResult":
        return self

    def __exit__(self, *error: object) -> None:
        self.ledger.close()

    @property
    def counts(self) -> dict[str, int]:
        return self.ledger.count()

    def accepted(self) -> Iterator[dict[str, Any]]:
        """The rows that are added, in order."""
        for _, path, split, details in self.ledger.accepted():
            row = details["row"]
            yield {
                "path": path,
                **{name: row[name] for name in ("text", "speaker", "language")},
                "split": split,
                "sha256": row["sha256"],
                "duration_s": row["duration_s"],
                "notes": list(details["notes"]),
            }

    def known(self) -> Iterator[dict[str, Any]]:
        """The rows that the corpus had already."""
        for path in self.ledger.known():
            yield {"path": path}

    def refused(self) -> Iterator[dict[str, Any]]:
        for path, line, reasons in self.ledger.refused():
            yield {"path": path, "line": line, "reasons": reasons}

    def sections(self) -> dict[str, Any]:
        """What `--json` holds, with iterators in place of the long lists."""
        return {
            "version": {"before": self.before, "after": self.after},
            "layout": self.layout,
            "take": self.accepted(),
            "have": self.known(),
            "refuse": self.refused(),
            "faults": [vars(fault) for fault in self.faults],
            "warnings": [vars(fault) for fault in self.warnings],
            "counts": self.counts,
            "ignored": self.ignored,
        }


def add(
    source: Path, options: AddOptions, into: Path, limits: Validate, dry_run: bool, progress: Progress
) -> AddResult:
    """Add the recordings that pass every check to the corpus `into`; with `dry_run` only report them.

    Faults of the source as a whole are in `AddResult.faults`, and then nothing is written. Raises UserError if
    `into` is not a corpus, if another process is adding to it, or if a recording changes during the add.
    """
    into = into.absolute()
    if dry_run:
        return _add(source, options, into, limits, True, progress)
    with lock_corpus(into):
        recover(into)
        return _add(source, options, into, limits, False, progress)


def _add(
    source: Path, options: AddOptions, into: Path, limits: Validate, dry_run: bool, progress: Progress
) -> AddResult:
    corpus = open_corpus(into)
    clear_path_cache()
    context = ReadContext(absolute(source), options)
    before = folder_digest(corpus.digests) if corpus.digests else ""
    result = AddResult(options.layout, "", before, None, [], [], 0, Ledger())
    try:
        _check_root(context.root)
        result.source = _source_name(options.name or context.root.resolve().name.split(".")[0])
        if options.split not in ("", *SPLITS):
            raise SourceFault("split", f"--split {options.split}: expected one of {', '.join(SPLITS)}")
        _read(context, result, corpus, limits, progress)
        result.faults, warnings = check_set(result.ledger, corpus, limits)
        result.warnings = context.warnings + warnings
        result.ignored = context.ignored
        if not dry_run and not result.faults and result.counts["take"]:
            _write(context, result, corpus, progress)
    except (SourceFault, TableFault) as fault:
        result.faults = [Fault(fault.name, str(fault))]
    except BaseException:
        result.ledger.close()
        raise
    return result


def _read(
    context: ReadContext, result: AddResult, corpus: Corpus, limits: Validate, progress: Progress
) -> None:
    checker = RowChecker(corpus, context.options, limits, result.source, result.ledger)
    rows, result.layout = read(context)
    checker.check(rows, lambda done: progress("checking", done, 0))
    if not any(result.counts.values()):
        raise SourceFault("no row", f"{context.root}: lists no recording; expected at least one")
    if context.find_unlisted:
        checker.check(
            unlisted_files(context, result.ledger.refers_to),
            lambda done: progress("looking for unlisted files", done, 0),
        )


def _write(context: ReadContext, result: AddResult, corpus: Corpus, progress: Progress) -> None:
    total = result.counts["take"]
    try:
        new = write(
            result.ledger,
            corpus,
            result.source,
            str(context.folder),
            lambda done: progress("storing", done, total),
        )
    except OSError as error:
        recover(corpus.folder)
        raise UserError(
            f"{corpus.folder}: cannot be written ({error.strerror}); nothing was added"
        ) from error
    result.after = folder_digest({**corpus.digests, **file_digests(corpus.folder, new)})


def _check_root(root: Path) -> None:
    """Raises SourceFault if the path is not UTF-8 or is a loop of symbolic links."""
    if printable(str(root)) != str(root):
        raise SourceFault(
            "name", f"{root}: the name is not UTF-8; rename it, or give another path to the folder"
        )
    try:
        root.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise SourceFault("no such path", f"{root}: a symbolic link that leads back to itself") from error


def _source_name(name: str) -> str:
    """The name made safe for a file name. Raises SourceFault for the name of a source that a build overwrites."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-.").lower()
    if not safe or safe in BUILT_SOURCES:
        problem = "is a source of corpus build" if safe else "has no letter or digit"
        raise SourceFault("name", f"--name {name}: {problem}; choose another --name")
    return safe


def added_sources(into: Path) -> list[str]:
    """The sources in a corpus that `corpus build` does not make."""
    names = read_manifest(into / "manifest.csv")["source"].unique()
    return sorted(str(name) or "rows without a source" for name in names if name not in BUILT_SOURCES)
