"""Row by row: known already? else decoded, measured and judged; and so taken, had already, or refused."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from multiprocessing import get_context

import pandas as pd

from metavox.dataset.manifest import COLUMNS
from metavox.errors import shortened
from metavox.ingest.existing import Corpus
from metavox.ingest.incoming import AddOptions, Incoming, SourceFault
from metavox.ingest.ledger import Entry, Ledger
from metavox.ingest.sound import Examined, digest, examiner, origin
from metavox.params import Validate
from metavox.quality import judge_rows
from metavox.quality.indicators import same_words
from metavox.sources.base import unit_of

CHUNK = 4096  # rows judged at once: Great Expectations takes a third of a second, however few they are
MANY = 300  # new recordings that are worth starting processes for
WORKERS = 2
BY_OPTION = ("speaker", "language", "license", "environment", "split")
TEXTS = [one.name for one in fields(Incoming) if one.type is str]
Told = Callable[[int], None]
"""Called with the number of rows that are done."""


@dataclass
class Taker:
    """Settles rows against a corpus and writes what becomes of them to the ledger."""

    corpus: Corpus
    options: AddOptions
    limits: Validate
    source: str  # the name of what is added
    ledger: Ledger
    _pool: ProcessPoolExecutor | None = field(default=None, init=False)

    def take(self, rows: Iterable[Incoming], told: Told) -> None:
        """Raises SourceFault when the rows as a whole do not say whose speaker or which language it is."""
        rows, done = iter(rows), 0
        try:
            while chunk := [self._completed(row) for row in islice(rows, CHUNK)]:
                if not done:
                    self._check_said(chunk)
                self._settle(chunk, partial(_told, told, done))
                done += len(chunk)
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def _completed(self, row: Incoming) -> Incoming:
        """With what the options say where the row says nothing; texts that no file can hold are refused."""
        said = {name: getattr(self.options, name) for name in BY_OPTION if not getattr(row, name)}
        if row.synthetic and not row.split:
            said["split"] = "train"
        try:
            "".join(getattr(row, name) for name in TEXTS).encode()
        except UnicodeEncodeError:
            broken = {name: getattr(row, name).encode("utf-8", "backslashreplace").decode() for name in TEXTS}
            return replace(row, **broken, reasons=(*row.reasons, "holds what is no character of Unicode"))
        return replace(row, **said) if said and not row.reasons else row

    def _check_said(self, chunk: list[Incoming]) -> None:
        fit = [row for row in chunk if not row.reasons]
        for name in ("speaker", "language"):
            if fit and not any(getattr(row, name) for row in fit):
                raise SourceFault(
                    f"no {name}", f"no recording says its {name}; add --{name} NAME for all of them"
                )

    def _settle(self, chunk: list[Incoming], told: Told) -> None:
        entries: list[Entry | None] = [None] * len(chunk)
        new: list[int] = []
        lines: dict[str, int] = {}
        for i, row in enumerate(chunk):
            entries[i] = self._known(row, lines)
            if entries[i] is None:
                new.append(i)
        told(len(chunk) - len(new))
        fit: list[tuple[int, Examined]] = []
        for at, (i, heard) in enumerate(zip(new, self._examined([chunk[i] for i in new]), strict=True)):
            told(len(chunk) - len(new) + at + 1)
            entries[i] = self._heard(chunk[i], heard)
            if entries[i] is None:
                fit.append((i, heard))
        abouts = [about(chunk[i], heard, self.source) for i, heard in fit]
        for (i, heard), one, reasons in zip(fit, abouts, self._judged(abouts, fit), strict=True):
            entries[i] = _entry(chunk[i], "refuse" if reasons else "take", tuple(reasons), heard, one)
        self.ledger.add([entry for entry in entries if entry is not None])

    def _known(self, row: Incoming, lines: dict[str, int]) -> Entry | None:
        """What can be said without decoding; None where it has to be heard."""
        if row.reasons or row.place is None:
            return _entry(row, "refuse", row.reasons or ("no recording",))
        if row.line is not None:
            first = lines.setdefault(row.place.key, self.ledger.line_of(row.place.key) or row.line)
            if first != row.line:
                return _entry(row, "refuse", (f"is on line {first} already",))
        try:
            sha256 = digest(row.place)
        except OSError as error:
            return _entry(row, "refuse", (f"cannot be read ({error.strerror})",))
        if row.sha256 and row.sha256.lower() != sha256:
            return _entry(
                row, "refuse", ("its SHA-256 is not the one in the manifest; the file has changed",)
            )
        if row.place.window:
            sha256 = ""
        content = (
            sha256
            if sha256 in self.corpus.claims
            else self.corpus.origins.get(origin(digest(row.place), row.place))
        )
        return self._claimed(row, content) if content else None

    def _claimed(self, row: Incoming, content: str) -> Entry | None:
        """Had when the corpus says the same of the recording, refused when it says something else."""
        claims = self.corpus.claims.get(content)
        if not claims:
            return None
        words = same_words(row.text)
        if any(claim.words == words and claim.speaker == row.speaker for claim in claims):
            return _entry(row, "have", content=content)
        other = claims[0]
        said = f"same recording as {other.path} in the corpus, which is {other.text!r} by {other.speaker}"
        return _entry(row, "refuse", (said,), content=content)

    def _heard(self, row: Incoming, heard: Examined) -> Entry | None:
        if heard.error:
            return _entry(row, "refuse", (heard.error,))
        return self._claimed(row, heard.sha256)

    def _examined(self, rows: list[Incoming]) -> Iterator[Examined]:
        places = [row.place for row in rows if row.place is not None]
        examine = examiner(self.limits.max_duration_s)
        if len(places) <= MANY and self._pool is None:
            return map(examine, places)
        if self._pool is None:
            self._pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))
        return self._pool.map(examine, places, chunksize=16)

    def _judged(self, abouts: list[dict], fit: list[tuple[int, Examined]]) -> list[list[str]]:
        if not abouts:
            return []
        rows = pd.DataFrame([one["row"] for one in abouts])
        measures = pd.DataFrame([heard.measures for _, heard in fit])
        rows = rows.assign(**measures, error="", path=[one["path"] for one in abouts])
        # Each row by itself: which of the same recordings is right is settled for all rows, not within a chunk.
        return judge_rows(rows.assign(content=[str(i) for i in range(len(rows))]), self.limits)


def _told(told: Told, before: int, more: int) -> None:
    told(before + more)


def about(row: Incoming, heard: Examined, source: str) -> dict:
    """What is needed to store a recording: its row of the manifest, where it is, and what to tell of it."""
    assert heard.measures is not None
    values = {
        **COLUMNS,
        **{name: getattr(row, name) for name in COLUMNS if name in TEXTS or name == "synthetic"},
        "speaker_group": row.speaker_group or row.speaker,
        "source": source,
        "unit": row.unit or unit_of(row.text, row.language),
        "text_kind": row.text_kind or "spoken",
        "duration_s": round(heard.measures["duration_s"], 4),
        "sample_rate": heard.sample_rate,
        "sha256": heard.sha256,
        "path": "",
    }
    return {
        "path": row.path,
        "row": values,
        "place": row.place,
        "notes": heard.notes,
        "convert": heard.convert,
    }


def _entry(
    row: Incoming,
    outcome: str,
    reasons: tuple[str, ...] = (),
    heard: Examined | None = None,
    what: dict | None = None,
    content: str = "",
) -> Entry:
    key = row.place.key if row.place is not None else None
    if key and row.reasons:  # a broken line: its file is accounted for, but another line may be about it
        key += "|unread"
    words = same_words(row.text) if outcome == "take" else ""
    return Entry(
        row.path,
        outcome,  # type: ignore[arg-type]
        row.line,
        key,
        tuple(shortened(" ".join(reason.split())) for reason in reasons),
        heard.sha256 if heard else content,
        words,
        row.speaker,
        row.speaker_group or row.speaker,
        row.split,
        what or {},
    )
