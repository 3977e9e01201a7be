"""What becomes of every row, kept on disk while adding: a manifest of millions of lines must not fill the memory."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from metavox.ingest.incoming import Place

Outcome = Literal["take", "have", "refuse"]
SCHEMA = """
CREATE TABLE rows (
    n INTEGER PRIMARY KEY, path TEXT, line INTEGER, key TEXT, outcome TEXT, reasons TEXT,
    content TEXT, words TEXT, speaker TEXT, person TEXT, split TEXT, about TEXT
);
CREATE INDEX by_key ON rows (key);
CREATE INDEX by_content ON rows (content) WHERE content != '';
CREATE INDEX by_outcome ON rows (outcome);
"""
CACHE_KIB = 16_000


@dataclass(frozen=True)
class Entry:
    """One row and what becomes of it."""

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
    about: dict[str, Any] = field(default_factory=dict)  # what is needed to store it


class Ledger:
    """The rows in the order in which they came. It is deleted when it is closed."""

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
            "INSERT INTO rows (path, line, key, outcome, reasons, content, words, speaker, person, split, about)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    e.path,
                    e.line,
                    e.key,
                    e.outcome,
                    "\n".join(e.reasons),
                    e.content,
                    e.words,
                    e.speaker,
                    e.speaker_group,
                    e.split,
                    json.dumps(e.about, default=asdict) if e.about else "",
                )
                for e in entries
            ),
        )
        self._rows.execute("COMMIT")

    def line_of(self, key: str) -> int | None:
        """The line of the first row about this sound."""
        found = self._rows.execute("SELECT line FROM rows WHERE key = ? LIMIT 1", (key,)).fetchone()
        return found[0] if found else None

    def knows(self, file: str) -> bool:
        """Whether a row is about this file, or a part of it."""
        where = (file + "|", file + "}")  # } is the sign after |: every key that starts with the file's name
        return bool(
            self._rows.execute("SELECT 1 FROM rows WHERE key >= ? AND key < ? LIMIT 1", where).fetchone()
        )

    def settle_twins(self) -> None:
        """Of rows to take with the same recording: refuse all that contradict each other, else keep the first."""
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

    def sides(self) -> list[tuple[str, str, str, bool]]:
        """(speaker, person, split, is taken) as declared by the rows that are fit for the corpus, or in it."""
        return self._rows.execute(
            "SELECT speaker, person, split, max(outcome = 'take') FROM rows WHERE outcome != 'refuse'"
            " GROUP BY speaker, person, split ORDER BY min(n)"
        ).fetchall()

    def put_on(self, speaker: str, speaker_group: str, split: str) -> None:
        """Give a split to the rows of a speaker that have none."""
        self._rows.execute(
            "UPDATE rows SET split = ? WHERE outcome = 'take' AND split = '' AND speaker = ? AND person = ?",
            (split, speaker, speaker_group),
        )

    def count(self) -> dict[str, int]:
        counts = dict(self._rows.execute("SELECT outcome, count(*) FROM rows GROUP BY outcome").fetchall())
        return {outcome: counts.get(outcome, 0) for outcome in ("take", "have", "refuse")}

    def taken(self) -> Iterator[tuple[int, str, str, dict[str, Any]]]:
        """(number, path, split, about) of the rows to take."""
        for n, path, split, about in self._rows.execute(
            "SELECT n, path, split, about FROM rows WHERE outcome = 'take' ORDER BY n"
        ):
            yield n, path, split, json.loads(about)

    def had(self) -> Iterator[str]:
        for (path,) in self._rows.execute("SELECT path FROM rows WHERE outcome = 'have' ORDER BY n"):
            yield path

    def refused(self) -> Iterator[tuple[str, int | None, list[str]]]:
        """(path, line, reasons)."""
        for path, line, reasons in self._rows.execute(
            "SELECT path, line, reasons FROM rows WHERE outcome = 'refuse' ORDER BY n"
        ):
            yield path, line, reasons.split("\n")


def place_of(about: dict[str, Any]) -> Place:
    return Place(**about["place"])
