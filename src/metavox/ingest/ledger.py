"""The outcome of every row, kept on disk during an add: a manifest of millions of lines must not fill the memory."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from metavox.ingest.incoming import AudioLocation

Outcome = Literal["take", "have", "refuse"]
SCHEMA = """
CREATE TABLE rows (
    n INTEGER PRIMARY KEY, path TEXT, line INTEGER, key TEXT, outcome TEXT, reasons TEXT,
    content TEXT, words TEXT, speaker TEXT, speaker_group TEXT, split TEXT, details TEXT
);
CREATE INDEX by_key ON rows (key);
CREATE INDEX by_content ON rows (content) WHERE content != '';
CREATE INDEX by_outcome ON rows (outcome);
"""
CACHE_KIB = 16_000


@dataclass(frozen=True)
class Entry:
    """One row and its outcome."""

    path: str
    outcome: Outcome
    line: int | None = None
    key: str | None = None
    reasons: tuple[str, ...] = ()
    content: str = ""  # the digest of what would be stored
    words: str = ""
    speaker: str = ""
    speaker_group: str = ""
    split: str = ""
    details: dict[str, Any] = field(default_factory=dict)  # what the writer needs to store it


class Ledger:
    """The rows in their original order. Closing the ledger deletes it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="metavox-add-")
        self._rows = sqlite3.connect(Path(self._folder.name) / "rows.sqlite", isolation_level=None)
        self._rows.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-{CACHE_KIB}; {SCHEMA}"
        )

    def close(self) -> None:
        self._rows.close()
        self._folder.cleanup()

    def add(self, entries: list[Entry]) -> None:
        self._rows.execute("BEGIN")
        self._rows.executemany(
            "INSERT INTO rows"
            " (path, line, key, outcome, reasons, content, words, speaker, speaker_group, split, details)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    entry.path,
                    entry.line,
                    entry.key,
                    entry.outcome,
                    "\n".join(entry.reasons),
                    entry.content,
                    entry.words,
                    entry.speaker,
                    entry.speaker_group,
                    entry.split,
                    json.dumps(entry.details, default=asdict) if entry.details else "",
                )
                for entry in entries
            ),
        )
        self._rows.execute("COMMIT")

    def line_of(self, key: str) -> int | None:
        """The line of the first row that refers to this audio."""
        row = self._rows.execute("SELECT line FROM rows WHERE key = ? LIMIT 1", (key,)).fetchone()
        return row[0] if row else None

    def refers_to(self, file: str) -> bool:
        """Whether a row refers to this file or to a segment of it."""
        bounds = (file + "|", file + "}")  # } follows |: the range holds every key that starts with the file
        return bool(
            self._rows.execute("SELECT 1 FROM rows WHERE key >= ? AND key < ? LIMIT 1", bounds).fetchone()
        )

    def resolve_duplicates(self) -> None:
        """Among accepted rows of the same recording, refuse all that contradict each other; else keep the first."""
        self._rows.executescript("""
            CREATE TEMP TABLE claims AS SELECT content, words, speaker, min(n) AS n, min(path) AS path
                FROM rows WHERE outcome = 'take' AND content IN (SELECT content FROM rows
                    WHERE outcome = 'take' GROUP BY content HAVING count(*) > 1)
                GROUP BY content, words, speaker;
            CREATE INDEX temp.claimed ON claims (content);
        """)
        disputed = "SELECT content FROM claims GROUP BY content HAVING count(*) > 1"
        rows = self._rows.execute(
            f"SELECT n, content, words, speaker FROM rows WHERE outcome = 'take' AND content IN ({disputed})"
        ).fetchall()
        for n, content, words, speaker in rows:
            (other,) = self._rows.execute(
                "SELECT path FROM claims WHERE content = ? AND NOT (words = ? AND speaker = ?) ORDER BY n LIMIT 1",
                (content, words, speaker),
            ).fetchone()
            reason = f"same recording as {other} under another text or speaker"
            self._rows.execute("UPDATE rows SET outcome = 'refuse', reasons = ? WHERE n = ?", (reason, n))
        self._rows.execute(
            "UPDATE rows SET outcome = 'have' WHERE outcome = 'take' AND n NOT IN (SELECT n FROM claims)"
            " AND content IN (SELECT content FROM claims)"
        )
        self._rows.execute("DROP TABLE claims")

    def speaker_splits(self) -> list[tuple[str, str, str, bool]]:
        """(speaker, speaker group, declared split, whether a row of it is accepted), of all rows not refused."""
        return self._rows.execute(
            "SELECT speaker, speaker_group, split, max(outcome = 'take') FROM rows WHERE outcome != 'refuse'"
            " GROUP BY speaker, speaker_group, split ORDER BY min(n)"
        ).fetchall()

    def assign_split(self, speaker: str, speaker_group: str, split: str) -> None:
        """Give a split to the accepted rows of a speaker that have none."""
        self._rows.execute(
            "UPDATE rows SET split = ?"
            " WHERE outcome = 'take' AND split = '' AND speaker = ? AND speaker_group = ?",
            (split, speaker, speaker_group),
        )

    def count(self) -> dict[str, int]:
        counts = dict(self._rows.execute("SELECT outcome, count(*) FROM rows GROUP BY outcome").fetchall())
        return {outcome: counts.get(outcome, 0) for outcome in ("take", "have", "refuse")}

    def accepted(self) -> Iterator[tuple[int, str, str, dict[str, Any]]]:
        """(number of the row, path, split, details)."""
        for n, path, split, details in self._rows.execute(
            "SELECT n, path, split, details FROM rows WHERE outcome = 'take' ORDER BY n"
        ):
            yield n, path, split, json.loads(details)

    def known(self) -> Iterator[str]:
        """Paths of the rows that the corpus has already."""
        for (path,) in self._rows.execute("SELECT path FROM rows WHERE outcome = 'have' ORDER BY n"):
            yield path

    def refused(self) -> Iterator[tuple[str, int | None, list[str]]]:
        """(path, line, reasons)."""
        for path, line, reasons in self._rows.execute(
            "SELECT path, line, reasons FROM rows WHERE outcome = 'refuse' ORDER BY n"
        ):
            yield path, line, reasons.split("\n")


def location_of(details: dict[str, Any]) -> AudioLocation:
    return AudioLocation(**details["location"])
