"""Row by row: a recording that the corpus does not have is decoded, measured and judged; every row gets its outcome."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import Any

import pandas as pd

from metavox.dataset.manifest import COLUMNS
from metavox.errors import shortened
from metavox.ingest.existing import Corpus
from metavox.ingest.incoming import AddOptions, Incoming, SourceFault
from metavox.ingest.inspection import Inspection, digest, inspector, origin
from metavox.ingest.ledger import Entry, Ledger, Outcome
from metavox.params import Validate
from metavox.quality import judge_rows
from metavox.quality.indicators import same_words
from metavox.sources.base import unit_of

CHUNK = 4096  # rows judged together: Great Expectations takes a third of a second, however few they are
POOL_THRESHOLD = 300  # new recordings from which on starting processes pays off
WORKERS = 2
OPTION_FIELDS = ("speaker", "language", "license", "environment", "split")
TEXT_FIELDS = [field.name for field in fields(Incoming) if field.type is str]
Progress = Callable[[int], None]
"""Called with the number of rows that are done."""


@dataclass
class RowChecker:
    """Checks rows against the corpus and the quality gate, and writes their outcomes to the ledger."""

    corpus: Corpus
    options: AddOptions
    limits: Validate
    source: str  # the name of the source being added
    ledger: Ledger
    _pool: ProcessPoolExecutor | None = field(default=None, init=False)

    def check(self, rows: Iterable[Incoming], progress: Progress) -> None:
        """Raises SourceFault if no row gives a speaker, or no row gives a language."""
        rows, done = iter(rows), 0
        try:
            while chunk := [self._with_options(row) for row in islice(rows, CHUNK)]:
                if not done:
                    self._require_speaker_and_language(chunk)
                self._check_chunk(chunk, partial(_advance, progress, done))
                done += len(chunk)
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def _with_options(self, row: Incoming) -> Incoming:
        """The row with the options' values where it has none; refused if its texts cannot be encoded."""
        values = {name: getattr(self.options, name) for name in OPTION_FIELDS if not getattr(row, name)}
        if row.synthetic and not row.split:
            values["split"] = "train"
        try:
            "".join(getattr(row, name) for name in TEXT_FIELDS).encode()
        except UnicodeEncodeError:
            escaped = {
                name: getattr(row, name).encode("utf-8", "backslashreplace").decode() for name in TEXT_FIELDS
            }
            return replace(row, **escaped, reasons=(*row.reasons, "contains a character that is not Unicode"))
        return replace(row, **values) if values and not row.reasons else row

    def _require_speaker_and_language(self, chunk: list[Incoming]) -> None:
        valid = [row for row in chunk if not row.reasons]
        for name in ("speaker", "language"):
            if valid and not any(getattr(row, name) for row in valid):
                raise SourceFault(
                    f"no {name}", f"no recording has a {name}; add --{name} NAME to set it for all of them"
                )

    def _check_chunk(self, chunk: list[Incoming], progress: Progress) -> None:
        entries = self._known_entries(chunk)
        new = [i for i, entry in enumerate(entries) if entry is None]
        done = len(chunk) - len(new)
        progress(done)
        decoded: list[tuple[int, Inspection]] = []
        for i, inspection in zip(new, self._inspect([chunk[i] for i in new]), strict=True):
            done += 1
            progress(done)
            entries[i] = self._entry_without_judging(chunk[i], inspection)
            if entries[i] is None:
                decoded.append((i, inspection))
        details = [storage_details(chunk[i], inspection, self.source) for i, inspection in decoded]
        judged = self._judge(details, [inspection for _, inspection in decoded])
        for (i, inspection), one, reasons in zip(decoded, details, judged, strict=True):
            outcome: Outcome = "refuse" if reasons else "take"
            entries[i] = _entry(chunk[i], outcome, tuple(reasons), inspection, one)
        self.ledger.add([entry for entry in entries if entry is not None])

    def _known_entries(self, chunk: list[Incoming]) -> list[Entry | None]:
        lines: dict[str, int] = {}
        return [self._entry_without_decoding(row, lines) for row in chunk]

    def _entry_without_decoding(self, row: Incoming, lines: dict[str, int]) -> Entry | None:
        """The entry of a row that need not be decoded; None if it has to be."""
        if row.reasons or row.location is None:
            return _entry(row, "refuse", row.reasons or ("no recording",))
        key = row.location.key
        if row.line is not None:
            first = lines.setdefault(key, self.ledger.line_of(key) or row.line)
            if first != row.line:
                return _entry(row, "refuse", (f"is already on line {first}",))
        try:
            sha256 = digest(row.location)
        except OSError as error:
            return _entry(row, "refuse", (f"cannot be read ({error.strerror})",))
        if row.sha256 and row.sha256.lower() != sha256:
            changed = "its SHA-256 differs from the manifest's: the file has changed; correct one of them"
            return _entry(row, "refuse", (changed,))
        content: str | None = sha256
        if row.location.segment or sha256 not in self.corpus.claims:
            content = self.corpus.origins.get(origin(sha256, row.location))
        return self._entry_from_claims(row, content) if content else None

    def _entry_from_claims(self, row: Incoming, content: str) -> Entry | None:
        """Known if the corpus has the recording with this text and speaker, refused if with others."""
        claims = self.corpus.claims.get(content)
        if not claims:
            return None
        words = same_words(row.text)
        if any(claim.words == words and claim.speaker == row.speaker for claim in claims):
            return _entry(row, "have", content=content)
        other = claims[0]
        reason = f"same recording as {other.path} in the corpus, which is {other.text!r} by {other.speaker}"
        return _entry(row, "refuse", (reason,), content=content)

    def _entry_without_judging(self, row: Incoming, inspection: Inspection) -> Entry | None:
        if inspection.error:
            return _entry(row, "refuse", (inspection.error,))
        return self._entry_from_claims(row, inspection.sha256)

    def _inspect(self, rows: list[Incoming]) -> Iterator[Inspection]:
        locations = [row.location for row in rows if row.location is not None]
        inspect = inspector(self.limits.max_duration_s)
        if len(locations) <= POOL_THRESHOLD and self._pool is None:
            return map(inspect, locations)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))
        return self._pool.map(inspect, locations, chunksize=16)

    def _judge(self, details: list[dict[str, Any]], inspections: list[Inspection]) -> list[list[str]]:
        """The reasons for which the quality gate refuses each recording; empty if it passes."""
        if not details:
            return []
        rows = pd.DataFrame([one["row"] for one in details])
        measures = pd.DataFrame([inspection.measures for inspection in inspections])
        rows = rows.assign(**measures, error="", path=[one["path"] for one in details])
        # Each row by itself: contradictions are resolved among all rows, not within a chunk.
        return judge_rows(rows.assign(content=[str(i) for i in range(len(rows))]), self.limits)


def _advance(progress: Progress, before: int, more: int) -> None:
    progress(before + more)


def storage_details(row: Incoming, inspection: Inspection, source: str) -> dict[str, Any]:
    """What the writer needs to store a recording: its manifest row, its location, and notes for the user."""
    assert inspection.measures is not None
    values = {
        **COLUMNS,
        **{name: getattr(row, name) for name in COLUMNS if name in TEXT_FIELDS or name == "synthetic"},
        "speaker_group": row.speaker_group or row.speaker,
        "source": source,
        "unit": row.unit or unit_of(row.text, row.language),
        "text_kind": row.text_kind or "spoken",
        "duration_s": round(inspection.measures["duration_s"], 4),
        "sample_rate": inspection.sample_rate,
        "sha256": inspection.sha256,
        "path": "",
    }
    return {
        "path": row.path,
        "row": values,
        "location": row.location,
        "notes": inspection.notes,
        "convert": inspection.convert,
    }


def _entry(
    row: Incoming,
    outcome: Outcome,
    reasons: tuple[str, ...] = (),
    inspection: Inspection | None = None,
    details: dict[str, Any] | None = None,
    content: str = "",
) -> Entry:
    key = row.location.key if row.location is not None else None
    if (
        key and row.reasons
    ):  # the row was not read: it accounts for its file, but another line may list it too
        key += "|unread"
    return Entry(
        row.path,
        outcome,
        row.line,
        key,
        tuple(shortened(" ".join(reason.split())) for reason in reasons),
        inspection.sha256 if inspection else content,
        same_words(row.text) if outcome == "take" else "",
        row.speaker,
        row.speaker_group or row.speaker,
        row.split,
        details or {},
    )
