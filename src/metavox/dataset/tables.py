"""Reads tables as people save them: CSV and TSV with any separator and encoding. All commands use this reader.

Tables are read line by line, so a bad line costs one row, and a table of any length takes little memory.
"""

import csv
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from metavox import old_names
from metavox.dataset.encodings import CODE_PAGES, WESTERN, NotThatEncoding, check_encoding, find_encoding
from metavox.errors import UserError, shown

LONGEST_LINE = 1 << 18
LONGEST_HEADER = 1 << 16
MAX_CELL_LINES = 20  # a quoted cell with more lines is taken for a missing quote
MAX_HEADER_LINE = 20  # empty lines and Excel's `sep=;` may precede the header
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
EXPECTED = "expected a first line such as path,text,speaker,language"
AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


class TableFault(UserError):
    """The table as a whole cannot be read. `name` is the kind of fault."""

    def __init__(self, name: str, explanation: str) -> None:
        super().__init__(explanation)
        self.name = name


@dataclass(frozen=True)
class Line:
    """A row of the table. `fault` says what is wrong with it, if anything is."""

    number: int
    cells: dict[str, str]
    fault: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose header has been read. Names of known columns are stripped and in lower case."""

    path: Path
    header: tuple[str, ...]
    header_line: int
    encoding: str
    delimiter: str
    quoted: bool
    notice: str = ""  # a line about a guessed encoding

    def lines(self, lenient: bool = False) -> Iterator[Line]:
        """The rows after the header, without empty lines.

        If `lenient`, cells missing at the end of a line are empty, and a cell may contain line breaks.
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
        """Raises TableFault when a column is missing; the message says if the separator or a missing header is why."""
        missing = [name for name in names if name not in self.header]
        if not missing:
            return
        header = shown(", ".join(filter(None, self.header)))
        if any(PurePosixPath(name.replace("\\", "/")).suffix.lower() in AUDIO for name in self.header):
            why = f"no header: the first line, {header}, is already a recording; {EXPECTED} above it"
        elif len(self.header) == 1:
            *separators, last = SEPARATORS.values()
            why = (
                f"no column {', '.join(missing)}: the header has a single column, {header}; "
                f"expected columns separated by {', '.join(separators)} or {last}"
            )
        else:
            separator = SEPARATORS[self.delimiter]
            why = f"no column {', '.join(missing)} among {header} (separated by {separator}); {EXPECTED}"
        raise TableFault("columns missing", f"{self.path}: {why}" + (f"; {advice}" if advice else ""))

    def _fault(self, cells: list[str], header: list[str], lenient: bool) -> str:
        if any(cells[len(header) :]) or (len(cells) < len(header) and not lenient):
            return (
                f"{len(cells)} cells on the line, but the header has {len(header)}"
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
    """Detect the table's encoding and separator, and read its header.

    `known` are the columns that the caller looks for. An empty `encoding` is detected; `option` is the command-line
    option that sets it, for the message. Raises TableFault if the file cannot be read, its encoding cannot be detected,
    or it has no usable header.
    """
    advice = "save the file as UTF-8" + (
        f", or name its encoding, such as {option} latin-1 or {option} cp1251" if option else ""
    )
    example = ""
    try:
        if encoding:
            check_encoding(path, encoding)
        else:
            encoding, example = find_encoding(path)
        number, first, delimiter = _header(path, encoding)
    except NotThatEncoding as error:
        raise TableFault(
            "encoding", f"{path}: {error}, and its encoding cannot be detected; {advice}"
        ) from error
    except LookupError as error:
        raise TableFault(
            "encoding", f"{option} {shown(encoding)}: unknown encoding; expected one such as latin-1"
        ) from error
    except OSError as error:
        raise TableFault("manifest unreadable", f"{path}: cannot be read ({error.strerror})") from error
    if "\0" in first:
        raise TableFault(
            "encoding", f"{path}: NUL bytes in the header, so it is not text in {encoding}; {advice}"
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
    _check_duplicates(path, header, first, delimiter)
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
    """The header with old names replaced by the current ones in `known`, unless those are present as well."""
    old = [
        name for name in header if (new := old_names.COLUMNS.get(name)) and new in known and new not in header
    ]
    if old:
        old_names.notice(str(path), old, old_names.COLUMNS)
    return [old_names.COLUMNS[name] if name in old else name for name in header]


def _header(path: Path, encoding: str) -> tuple[int, str, str]:
    """(line number of the header, its text, the separator from Excel's line `sep=;` or empty).

    Raises TableFault for a line that is too long for a header.
    """
    delimiter = ""
    with path.open(encoding=encoding, newline="") as file:
        for number in range(1, MAX_HEADER_LINE + 1):
            line = file.readline(LONGEST_HEADER)
            if len(line) >= LONGEST_HEADER:
                message = f"{path}: a first line of more than {LONGEST_HEADER} characters; {EXPECTED}"
                raise TableFault("columns missing", message)
            text = line.strip("\r\n").removeprefix("\ufeff")
            directive = text.strip(" \"'")
            if directive.lower().startswith("sep=") and directive[4:5] in SEPARATORS:
                delimiter = directive[4:5]
            elif text.strip(" ,;\t") or not line:
                return number, text, delimiter
    return MAX_HEADER_LINE, "", delimiter


def _delimiter(first: str, known: Collection[str]) -> str:
    """The separator that gives the most known columns, or the most columns among equals."""

    def score(separator: str) -> tuple[int, int]:
        names = [name.strip().lower() for name in _cells(first, separator)]
        return sum(old_names.COLUMNS.get(name, name) in known for name in names), len(names)

    return max(SEPARATORS, key=score)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _check_duplicates(path: Path, header: list[str], first: str, delimiter: str) -> None:
    duplicates = sorted({name for name in header if name and header.count(name) > 1})
    if not duplicates:
        return
    written = [
        cell.strip()
        for cell, name in zip(_cells(first, delimiter), header, strict=True)
        if name in duplicates
    ]
    raise TableFault(
        "column twice",
        f"{path}: column {shown(', '.join(duplicates))} more than once in the header, as {shown(', '.join(written))};"
        " remove or rename all but one",
    )


def _check_languages(table: Table, advice: str) -> None:
    """Raises TableFault if the guess of Windows-1252 contradicts the languages that the table names."""
    for line in table.lines():
        language = line.cells.get("language", "").strip().lower()
        if page := CODE_PAGES.get(language):
            advice = advice.replace("cp1251", page)
            raise TableFault(
                "encoding",
                f"{table.path}: not UTF-8, and {WESTERN} does not cover language {language} on line {line.number}"
                f" (its code page is {page}); {advice}",
            )


def _records(file: TextIO, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str], str]]:
    """(number of the first line, cells, fault). An unclosed quote costs its line, not the rest of the table."""
    source, lookahead = _lines(file), deque[tuple[int, str]]()
    while True:
        number, text = lookahead.popleft() if lookahead else next(source, (0, ""))
        if not number:
            return
        if len(text) >= LONGEST_LINE:
            yield number, [], f"a line of more than {LONGEST_LINE} characters"
            continue
        lines = [text]
        if quoted and text.count('"') % 2:
            lines += _until_closed(lookahead, source)
            if sum(line.count('"') for line in lines) % 2 and _has_open_quote(text, delimiter):
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
            lookahead.popleft()
        yield number, cells, ""


def _until_closed(lookahead: deque[tuple[int, str]], source: Iterator[tuple[int, str]]) -> list[str]:
    """The lines up to the one that closes an open quote. They stay in `lookahead`."""
    lines: list[str] = []
    while len(lines) < MAX_CELL_LINES:
        if len(lines) == len(lookahead):
            following = next(source, None)
            if following is None:
                break
            lookahead.append(following)
        lines.append(lookahead[len(lines)][1])
        if lines[-1].count('"') % 2:
            break
    return lines


def _has_open_quote(text: str, delimiter: str) -> bool:
    """Whether a cell starts with a quote that the line does not close."""
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
