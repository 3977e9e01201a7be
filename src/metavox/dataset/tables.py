"""Tables as people save them: CSV and TSV, whatever the separator and encoding. One reader for all commands.

They are read line by line: one bad line costs one row, and a table of any length takes little memory.
"""

import csv
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from metavox import old_names
from metavox.dataset.encodings import PAGES, WESTERN, NotThatEncoding, check_encoding, find_encoding
from metavox.errors import UserError, shown

LONGEST_LINE = 1 << 18
LONGEST_HEADER = 1 << 16
MOST_LINES = 20  # of one quoted cell; more is a quote that somebody forgot
BEFORE_HEADER = 20  # empty lines, and Excel's sep=;
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
EXPECTED = "expected a first line such as path,text,speaker,language"
AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


class TableFault(UserError):
    """A table that cannot be read as a whole. `name` is the kind of fault."""

    def __init__(self, name: str, explanation: str) -> None:
        super().__init__(explanation)
        self.name = name


@dataclass(frozen=True)
class Line:
    """A row of the table, or with `fault` what is wrong with it."""

    number: int
    cells: dict[str, str]
    fault: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose header is read. Names of columns that the reader knows are in lower case and without spaces around."""

    path: Path
    header: tuple[str, ...]
    header_line: int
    encoding: str
    delimiter: str
    quoted: bool
    notice: str = ""  # what was guessed

    def lines(self, lenient: bool = False) -> Iterator[Line]:
        """Every row but the header; empty lines are none.

        With `lenient`, cells that a line lacks at its end are empty, and a cell may hold line breaks.
        """
        with self.path.open(encoding=self.encoding, newline="") as file:
            header: list[str] = []
            for number, cells, fault in _records(file, self.delimiter, self.quoted):
                if number <= self.header_line:
                    header = cells
                    continue
                if not fault and not any(cells):
                    continue
                named = {name: cell for name, cell in zip(self.header, cells, strict=False) if name}
                yield Line(number, named, fault or self._fault(cells, header, lenient))

    def require(self, names: Collection[str], advice: str = "") -> None:
        """Raises TableFault where a column is missing, and says so where the separator or the header is behind it."""
        missing = [name for name in names if name not in self.header]
        if not missing:
            return
        among = shown(", ".join(filter(None, self.header)))
        if any(PurePosixPath(name.replace("\\", "/")).suffix.lower() in AUDIO for name in self.header):
            why = f"no header: the first line, {among}, is a recording already; {EXPECTED} above it"
        elif len(self.header) == 1:
            signs = " or ".join((", ".join([*SEPARATORS.values()][:-1]), [*SEPARATORS.values()][-1]))
            why = f"no column {', '.join(missing)}: the header is the one column {among}; expected columns separated by {signs}"
        else:
            why = f"no column {', '.join(missing)} among {among} (separated by {SEPARATORS[self.delimiter]}); {EXPECTED}"
        raise TableFault("columns missing", f"{self.path}: {why}" + (f"; {advice}" if advice else ""))

    def _fault(self, cells: list[str], header: list[str], lenient: bool) -> str:
        if any(cells[len(header) :]) or (len(cells) < len(header) and not lenient):
            return (
                f"{len(cells)} cells on the line, the header has {len(header)}"
                f" (separated by {SEPARATORS[self.delimiter]})"
            )
        if cells == header:
            return "repeats the header"
        if any("\0" in cell for cell in cells):
            return "a NUL character in a cell"
        if not lenient and any("\n" in cell or "\r" in cell for cell in cells):
            return "a line break in a cell"
        return ""


def open_table(
    path: Path, known: Collection[str], encoding: str = "", quoted: bool = True, option: str = ""
) -> Table:
    """Find out how the table is written, and read its header; `known` are the columns that the reader looks for.

    Without `encoding` it is detected. `option` is what the user may name it with, for the message. Raises
    TableFault where the file cannot be read, its encoding cannot be told, or it has no usable header.
    """
    advice = "save the file as UTF-8" + (
        f", or name what it is in, such as {option} latin-1 or {option} cp1251" if option else ""
    )
    example = ""
    try:
        if encoding:
            check_encoding(path, encoding)
        else:
            encoding, example = find_encoding(path)
        number, first, delimiter = _header(path, encoding)
    except NotThatEncoding as error:
        raise TableFault("encoding", f"{path}: {error}, and its encoding cannot be told; {advice}") from error
    except LookupError as error:
        raise TableFault(
            "encoding", f"{option} {shown(encoding)}: not known; expected one such as latin-1"
        ) from error
    except OSError as error:
        raise TableFault("manifest unreadable", f"{path}: cannot be read ({error.strerror})") from error
    if "\0" in first:
        raise TableFault(
            "encoding", f"{path}: NUL bytes in the header, which is no text in {encoding}; {advice}"
        )
    delimiter = (delimiter or _delimiter(first, known)) if quoted else "\t"
    header = [name.strip() for name in _cells(first, delimiter)]
    if not any(header):
        raise TableFault("manifest empty", f"{path}: no header; {EXPECTED}")
    header = [
        name.lower() if name.lower() in known or name.lower() in old_names.COLUMNS else name
        for name in header
    ]
    header = _current(path, header, known)
    _check_twice(path, header, first, delimiter)
    notice = (
        f"{path}: not UTF-8; read as Windows-1252, as in '{shown(example)}'; if that is wrong, {advice}"
        if example
        else ""
    )
    table = Table(path, tuple(header), number, encoding, delimiter, quoted, notice)
    if notice:
        _check_languages(table, advice)
    return table


def _current(path: Path, header: list[str], known: Collection[str]) -> list[str]:
    """The header with today's names for old ones that the reader looks for, unless those stand there as well."""
    old = [
        name for name in header if (new := old_names.COLUMNS.get(name)) and new in known and new not in header
    ]
    if old:
        old_names.notice(str(path), old, old_names.COLUMNS)
    return [old_names.COLUMNS[name] if name in old else name for name in header]


def _header(path: Path, encoding: str) -> tuple[int, str, str]:
    """(number of the header's line, the line, the separator that Excel's line `sep=;` names; empty without one).

    Raises TableFault for a line that is too long for a header.
    """
    delimiter = ""
    with path.open(encoding=encoding, newline="") as file:
        for number in range(1, BEFORE_HEADER + 1):
            line = file.readline(LONGEST_HEADER)
            if len(line) >= LONGEST_HEADER:
                told = f"{path}: a first line of more than {LONGEST_HEADER} characters; {EXPECTED}"
                raise TableFault("columns missing", told)
            text = line.strip("\r\n").removeprefix("\ufeff")
            said = text.strip(" \"'")
            if said.lower().startswith("sep=") and said[4:5] in SEPARATORS:
                delimiter = said[4:5]
            elif text.strip(" ,;\t") or not line:
                return number, text, delimiter
    return BEFORE_HEADER, "", delimiter


def _delimiter(first: str, known: Collection[str]) -> str:
    """The separator that gives most of the known columns, and then most columns."""

    def fit(sign: str) -> tuple[int, int]:
        names = [name.strip().lower() for name in _cells(first, sign)]
        return sum(old_names.COLUMNS.get(name, name) in known for name in names), len(names)

    return max(SEPARATORS, key=fit)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _check_twice(path: Path, header: list[str], first: str, delimiter: str) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if not twice:
        return
    written = [
        cell.strip() for cell, name in zip(_cells(first, delimiter), header, strict=True) if name in twice
    ]
    raise TableFault(
        "column twice",
        f"{path}: column {shown(', '.join(twice))} more than once in the header, as {shown(', '.join(written))};"
        " remove or rename all but one",
    )


def _check_languages(table: Table, advice: str) -> None:
    """Windows-1252 was guessed; what the table says of languages may be against it."""
    for line in table.lines():
        language = line.cells.get("language", "").strip().lower()
        if page := PAGES.get(language):
            advice = advice.replace("cp1251", page)
            raise TableFault(
                "encoding",
                f"{table.path}: not UTF-8, and {WESTERN} is not for language {language} on line {line.number}"
                f" (its own would be {page}); {advice}",
            )


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
