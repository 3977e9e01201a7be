"""Tables as people save them: every command reads the tables that `corpus add` reads, and names what is wrong with others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from metavox.dataset.manifest import COLUMNS, read_manifest, resolve
from metavox.dataset.tables import TableFault, open_table
from metavox.errors import MAX_MESSAGE_LENGTH, UserError
from tests.ingest.adding import record, run_add

ROWS = "path,text,speaker,language\na.wav,schön,anna,de\nb.wav,ja,anna,de\n"
SAVED: dict[str, bytes] = {
    "semicolons": ROWS.replace(",", ";").encode(),
    "tabs": ROWS.replace(",", "\t").encode(),
    "bars": ROWS.replace(",", "|").encode(),
    "a comma in a cell between semicolons": ROWS.replace(",", ";").replace("ja", "ja, ja").encode(),
    "a separator line": ("sep=;\r\n" + ROWS.replace(",", ";")).encode(),
    "a quoted separator line": ('"sep=;"\r\n' + ROWS.replace(",", ";")).encode("utf-8-sig"),
    "utf-16": ROWS.encode("utf-16"),
    "utf-16 without a mark": ROWS.encode("utf-16-le"),
    "big-endian utf-16 without a mark": ROWS.encode("utf-16-be"),
    "utf-32": ROWS.encode("utf-32"),
    "cp1252": ROWS.encode("cp1252"),
    "capitals and spaces": ROWS.replace("path,text,speaker", " Path, TEXT ,Speaker").encode(),
    "empty lines first": ("\n;;;\n" + ROWS.replace(",", ";")).encode(),
    "empty columns": ROWS.replace("\n", ",,\n").encode(),
    "line ends of a classic Mac": ROWS.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("saved", SAVED)
def test_tables_that_are_read(saved: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(SAVED[saved])
    notices: list[str] = []
    rows = read_manifest(path, notices.append)
    assert rows["path"].tolist() == ["a.wav", "b.wav"]
    assert rows["text"].tolist() == ["schön", "ja, ja" if "comma" in saved else "ja"]
    assert rows["speaker"].tolist() == ["anna"] * 2
    assert set(rows.columns) == set(COLUMNS)
    guessed = ["read as Windows-1252, as in 'schön'"] if saved == "cp1252" else []
    assert len(notices) == len(guessed)
    assert all(words in line for words, line in zip(guessed, notices, strict=True))


BROKEN: dict[str, tuple[bytes, str]] = {
    "spaces": (
        b"path text\na.wav yes\n",
        "single column, path text; expected columns separated by comma, semicolon",
    ),
    "a wrong separator line": (
        b"sep=,\npath;text\na;b\n",
        "the header has a single column, path;text",
    ),
    "no header": (b"a.wav,yes\nb.wav,no\n", "no header: the first line, a.wav, yes, is already a recording"),
    "other columns": (
        b"file;label\na.wav;yes\n",
        "no column path, text among file, label .separated by semicolon.",
    ),
    "text twice": (b"path,text,text\na,b,c\n", "column text more than once .*; remove or rename all but one"),
    "text in two cases": (
        b"path,text,Text\na,b,c\n",
        "column text more than once in the header, as text, Text",
    ),
    "a line too long": (b"path,text\na,b\nc,d,e\n", "line 3: 3 cells on the line, but the header has 2"),
    "a quote left open": (b'path,text\na,"b\nc,d\n', "line 2: a quote that is not closed"),
    "a NUL": (b"path,text\na,b\0b\n", "line 2: a NUL character in a cell"),
    "Russian": ("path,text\na,привет\n".encode("cp1251"), "byte 12 on line 2 is not UTF-8, and its encoding"),
    "Polish": (
        "path,text\na,łódź\n".encode("cp1250"),
        "its encoding cannot be detected; save the file as UTF-8",
    ),
    "Czech": (
        "path,text,language\na,řeka,cs\n".encode("cp1250"),
        "cp1252 does not cover language cs on line 2 .its code page is cp1250.",
    ),
    "Greek": ("path,text\na,ναι\n".encode("cp1253"), "cannot be detected"),
    "Japanese": ("path,text\na,はい\n".encode("cp932"), "cannot be detected"),
    "German in DOS": ("path,text\na,schön\n".encode("cp850"), "cannot be detected"),
    "French on a classic Mac": ("path,text\na,café\n".encode("mac-roman"), "cannot be detected"),
    "no text at all": (bytes(range(256)) * 9, "cannot be detected|NUL|no column|no header"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_unreadable_table_names_its_fault(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(BROKEN[name][0])
    with pytest.raises(UserError, match=BROKEN[name][1]) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert "--encoding" not in str(caught.value), "only corpus add has that option"


@pytest.mark.parametrize("text", ["schön", "l’été", "¿Qué?", "þýða", "coração, à", "«naïve»", "Zoë’s", "x €"])
def test_languages_of_western_europe_are_recognised(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(f"path,text\na,é\nb,{text.replace(',', ';')}\n".encode("cp1252"))
    assert read_manifest(path)["text"].tolist() == ["é", text.replace(",", ";")]


HUGE = "one " * 250_000
QUOTING: dict[str, Callable[[Path], object]] = {
    "a field": lambda path: path.write_text(f"path,text\na,{HUGE}\n"),
    "a name of a column": lambda path: path.write_text(f"file,text,{HUGE}\n"),
    "a split": lambda path: path.write_text(f"path,text,speaker,language,split\na,b,c,d,{HUGE[:100_000]}\n"),
}


@pytest.mark.parametrize("what", QUOTING)
def test_messages_never_repeat_a_huge_value(what: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    QUOTING[what](path)
    messages = []
    try:
        read_manifest(path)
    except UserError as error:
        messages.append(str(error))
    found = run_add(path, tmp_path / "data")
    messages += [fault["explanation"] for fault in (*found["faults"], *found["warnings"])]
    messages += [reason for row in found["refuse"] for reason in row["reasons"]]
    assert messages
    assert max(map(len, messages)) <= MAX_MESSAGE_LENGTH
    assert max(message.count("one") for message in messages) <= 20


def test_a_long_message_is_shortened_in_the_middle() -> None:
    message = str(UserError(f"a.csv: {HUGE}; expected less"))
    assert len(message) == MAX_MESSAGE_LENGTH
    assert message.startswith("a.csv: one one")
    assert message.endswith("; expected less")


def test_windows_paths(tmp_path: Path) -> None:
    record(tmp_path / "clips/a.wav", 1)
    assert resolve(tmp_path / "m.csv", "clips\\a.wav") == tmp_path / "clips/a.wav"
    assert resolve(tmp_path / "m.csv", "clips\\gone.wav") == tmp_path / "clips\\gone.wav"
    (tmp_path / "odd\\name.wav").write_bytes(b"")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/name.wav").write_bytes(b"")
    assert resolve(tmp_path / "m.csv", "odd\\name.wav") == tmp_path / "odd\\name.wav"


def test_short_lines_are_filled_with_empty_cells_if_lenient(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('path,text,speaker\na.wav,yes\nb.wav,"no\nno",anna\n')
    assert read_manifest(path)["speaker"].tolist() == ["", "anna"]
    assert [line.fault != "" for line in open_table(path, COLUMNS).lines()] == [True, True]
    with pytest.raises(TableFault, match="klingon: unknown encoding"):
        open_table(path, COLUMNS, "klingon")
