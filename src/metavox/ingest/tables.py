"""CSV and TSV line by line: one bad line costs one row, and a table of any length little memory."""

import codecs
import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from metavox.ingest.incoming import SourceFault

UTF8 = "utf-8-sig"  # with a byte order mark or without
BLOCK = 1 << 20
LONGEST_LINE = 1 << 18
MOST_LINES = 20  # of one quoted cell; more is a quote that somebody forgot
BOMS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Line:
    """A row of the table, or with `fault` what is wrong with it."""

    number: int
    cells: dict[str, str]
    fault: str = ""


@dataclass(frozen=True)
class Table:
    path: Path
    header: tuple[str, ...]
    encoding: str
    delimiter: str
    quoted: bool

    def lines(self) -> Iterator[Line]:
        """Every row but the header; empty lines are none."""
        with self.path.open(encoding=self.encoding, newline="") as file:
            records = _records(file, self.delimiter, self.quoted)
            next(records, None)
            for number, cells, fault in records:
                if not fault and not any(cells):
                    continue
                yield Line(number, dict(zip(self.header, cells, strict=False)), fault or self._fault(cells))

    def _fault(self, cells: list[str]) -> str:
        if len(cells) != len(self.header):
            return f"{len(cells)} cells on the line, the header has {len(self.header)}"
        if tuple(cells) == self.header:
            return "repeats the header"
        if any("\0" in cell for cell in cells):
            return "a NUL character in a cell"
        if any("\n" in cell or "\r" in cell for cell in cells):
            return "a line break in a cell"
        return ""


def open_table(path: Path, encoding: str = "", quoted: bool = True) -> Table:
    """Read the header, and check that the whole file is in the encoding.

    Raises SourceFault where the file cannot be read, is in another encoding, or has no usable header.
    """
    encoding = encoding or UTF8
    try:
        _check_encoding(path, encoding)
        with path.open(encoding=encoding, newline="") as file:
            first = file.readline(LONGEST_LINE).strip("\r\n")
    except LookupError as error:
        raise SourceFault(
            "encoding", f"--encoding {encoding}: not known; expected one such as latin-1"
        ) from error
    except OSError as error:
        raise SourceFault("manifest unreadable", f"{path}: cannot be read ({error.strerror})") from error
    if "\0" in first:
        advice = "save it as UTF-8, or name what it is in, such as --encoding utf-16-le"
        raise SourceFault("encoding", f"{path}: NUL bytes in the header, as UTF-16 has them; {advice}")
    delimiter = max("\t,;|", key=first.count) if quoted else "\t"
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if not any(header):
        raise SourceFault("manifest empty", f"{path}: no header; expected a first line such as path,text")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise SourceFault("column twice", f"{path}: column {', '.join(twice)} more than once in the header")
    return Table(path, tuple(header), encoding, delimiter, quoted)


def _check_encoding(path: Path, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    done = lines = 0
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(0)
        while True:
            block = file.read(BLOCK)
            pending = decoder.getstate()[0]
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                at = done - len(pending) + error.start
                line = lines + 1 + (pending + block)[: error.start].count(b"\n")
                guess = BOMS.get(head, "latin-1 or cp1252")
                raise SourceFault(
                    "encoding",
                    f"{path}: byte {at} on line {line} is not {encoding.removesuffix('-sig').upper()}; save the file"
                    f" as UTF-8, or name what it is in, such as --encoding {guess}",
                ) from error
            if not block:
                return
            done, lines = done + len(block), lines + block.count(b"\n")


def _records(file: TextIO, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str], str]]:
    """(number of the first line, cells, fault). A quote that is never closed costs its line, not the rest."""
    source, waiting = _lines(file), deque[tuple[int, str]]()
    while True:
        number, text = waiting.popleft() if waiting else next(source, (0, ""))
        if not number:
            return
        if len(text) >= LONGEST_LINE:
            yield number, [], f"a line of more than {LONGEST_LINE} characters"
            continue
        lines = [text]
        if quoted and text.count('"') % 2:
            lines += _until_closed(waiting, source)
            if sum(line.count('"') for line in lines) % 2 and _starts_open(text, delimiter):
                yield number, [], "a quote that is not closed"
                continue
        try:
            reader = csv.reader(
                lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
            )
            cells = next(reader, [])
        except csv.Error as error:
            yield number, [], f"not a line of a CSV ({error})"
            continue
        for _ in range(reader.line_num - 1):
            waiting.popleft()
        yield number, cells, ""


def _until_closed(waiting: deque[tuple[int, str]], source: Iterator[tuple[int, str]]) -> list[str]:
    """The lines up to the one that closes an open quote; they stay in `waiting`."""
    ahead: list[str] = []
    while len(ahead) < MOST_LINES:
        if len(ahead) == len(waiting):
            following = next(source, None)
            if following is None:
                break
            waiting.append(following)
        ahead.append(waiting[len(ahead)][1])
        if ahead[-1].count('"') % 2:
            break
    return ahead


def _starts_open(text: str, delimiter: str) -> bool:
    """Whether a cell of the line starts with a quote that the line does not close."""
    try:
        next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return True
    return False


def _lines(file: TextIO) -> Iterator[tuple[int, str]]:
    number = 0
    while text := file.readline(LONGEST_LINE):
        number += 1
        yield number, text
        while len(text) >= LONGEST_LINE and not text.endswith(("\n", "\r")):
            text = file.readline(LONGEST_LINE)
