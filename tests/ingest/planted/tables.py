"""Faulty manifests of good recordings: each has `ROWS` good rows."""

import csv
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planted.clips import Clip, wav

HEADER = ["path", "text", "speaker", "language", "split"]
ROWS = 4


@dataclass(frozen=True)
class Table:
    name: str
    fault: str  # pattern of the fault of the manifest as a whole; empty if there is none
    warning: str
    make: Callable[[Path, list[list[str]]], None]


TABLES: list[Table] = []


def table(fault: str = "", warning: str = "") -> Callable[..., Any]:
    def keep(make: Callable[[Path, list[list[str]]], None]) -> Callable[..., None]:
        TABLES.append(Table(make.__name__.replace("_", " "), fault, warning, make))
        return make

    return keep


def recordings(folder: Path, clips: tuple[Clip, ...]) -> list[list[str]]:
    """0.wav, 1.wav ... and their rows."""
    folder.mkdir()
    rows = []
    for index, clip in enumerate(clips[:ROWS]):
        (folder / f"{index}.wav").write_bytes(wav(clip.at(16000), 16000))
        rows.append([f"{index}.wav", clip.text, f"speaker-{index}", clip.language, "train"])
    return rows


def text_of(rows: list[list[str]], **options: Any) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n", **options).writerows(rows)
    return file.getvalue()


def accented(rows: list[list[str]]) -> list[list[str]]:
    return [HEADER, *([path, f"{text} é", *rest] for path, text, *rest in rows)]


# --- other encodings


@table(warning="not UTF-8; read as Windows-1252, as in 'é'")
def manifest_in_latin_1(path: Path, rows: list[list[str]]) -> None:
    path.write_bytes(text_of(accented(rows)).encode("latin-1"))


@table()
def manifest_in_utf_16(path: Path, rows: list[list[str]]) -> None:
    path.write_bytes(text_of(accented(rows)).encode("utf-16"))


@table()
def manifest_in_utf_16_without_a_mark(path: Path, rows: list[list[str]]) -> None:
    path.write_bytes(text_of([HEADER, *rows]).encode("utf-16-le"))


@table()
def manifest_with_a_byte_order_mark(path: Path, rows: list[list[str]]) -> None:
    path.write_bytes(text_of(accented(rows)).encode("utf-8-sig"))


@table(fault="byte .* is not UTF-8, and its encoding cannot be detected")
def manifest_in_windows_cyrillic(path: Path, rows: list[list[str]]) -> None:
    russian = ([path, "привет", *rest] for path, _, *rest in rows)
    path.write_bytes(text_of([HEADER, *russian]).encode("cp1251"))


@table(fault="cp1252 does not cover language pl on line 2 .its code page is cp1250")
def manifest_in_windows_central_european(path: Path, rows: list[list[str]]) -> None:
    polish = ([path, "góra", speaker, "pl", split] for path, _, speaker, _, split in rows)
    path.write_bytes(text_of([HEADER, *polish]).encode("cp1250"))


# --- other shapes


@table(fault="text")
def manifest_without_the_column_text(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([[HEADER[0], *HEADER[2:]], *([row[0], *row[2:]] for row in rows)]))


@table(fault="path")
def manifest_without_the_column_path(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([HEADER[1:], *(row[1:] for row in rows)]))


@table(warning="mood")
def manifest_with_an_extra_column(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([[*HEADER, "mood"], *([*row, "merry"] for row in rows)]))


@table(fault="twice|more than once|duplicate")
def manifest_with_a_column_twice(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([[*HEADER, "text"], *([*row, "other"] for row in rows)]))


@table(fault="no header: the first line, .* is already a recording")
def manifest_without_a_header(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of(rows))


@table(fault="column text more than once in the header, as text, Text; remove or rename all but one")
def manifest_with_a_column_in_two_cases(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([[*HEADER, "Text"], *([*row, "other"] for row in rows)]))


@table(fault="no row|empty|no recording")
def manifest_of_a_header_only(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([HEADER]))


@table(fault="empty|header")
def manifest_of_zero_bytes(path: Path, rows: list[list[str]]) -> None:
    path.write_bytes(b"")


@table(fault="folder|directory|not a file|no file")
def folder_in_place_of_the_manifest(path: Path, rows: list[list[str]]) -> None:
    path.mkdir()


@table(fault="UTF-8|encoding|binary|text|header|column")
def recording_in_place_of_the_manifest(path: Path, rows: list[list[str]]) -> None:
    (path.with_name("0.wav")).replace(path)
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFE)
    path.write_bytes(data)


@table(fault="leads out|loop|levels|cannot be read|no such|dangling link")
def manifest_that_links_to_itself(path: Path, rows: list[list[str]]) -> None:
    path.symlink_to("manifest.csv")


@table()
def manifest_with_semicolons(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([HEADER, *rows], delimiter=";"))


@table()
def manifest_with_a_separator_line(path: Path, rows: list[list[str]]) -> None:
    path.write_text("sep=|\n" + text_of([HEADER, *rows], delimiter="|"))


@table()
def manifest_with_spaced_names_in_capitals(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([[f" {name.title()} " for name in HEADER], *rows]))


@table()
def manifest_with_empty_columns(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([[*HEADER, "", ""], *([*row, "", ""] for row in rows)]))


@table()
def manifest_with_windows_paths(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([HEADER, *([f".\\{row[0]}", *row[1:]] for row in rows)]))


@table(fault="the header has a single column, path text speaker .* expected columns separated by comma")
def manifest_with_spaces_between_cells(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([HEADER, *rows], delimiter=" "))


@table()
def manifest_from_windows(path: Path, rows: list[list[str]]) -> None:
    path.write_bytes(text_of([HEADER, *rows]).replace("\n", "\r\n").encode())


@table()
def manifest_without_a_last_newline(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([HEADER, *rows]).rstrip("\n"))


@table()
def manifest_with_empty_lines(path: Path, rows: list[list[str]]) -> None:
    path.write_text(text_of([HEADER, *rows]).replace("\n", "\n\n"))


# --- faulty lines

# By name: the line, in which {0} is the first good line, and the pattern of the reason.
LINES: dict[str, tuple[str, str]] = {
    "too few cells": ("8.wav,one", "cells|columns|fields"),
    "too many cells": ("9.wav,one, two,v,en,train,more", "cells|columns|fields"),
    "a quoted newline": ('9.wav,"one\ntwo",v,en,train', "line break|newline|control"),
    "a NUL byte": ("9.wav,one\0two,v,en,train", "NUL|control"),
    "a million characters": (f"9.wav,{'one ' * 250000},v,en,train", "characters|long"),
    "the header again": (",".join(HEADER), "header"),
    "a repeated line": ("{0}", "listed|twice|more than once|again|line"),
    "a repeated recording with another text": (
        "./0.wav,else,v,en,train",
        "listed|twice|more than once|again|line",
    ),
    "no path": (",one,v,en,train", "path"),
    "a quote that is never closed": ('9.wav,"one,v,en,train', "quote"),
}


def write_lines(path: Path, rows: list[list[str]]) -> dict[int, str]:
    """Write a good line, then two bad ones, and so on; returns the expected patterns by line number."""
    good = [text_of([row]) for row in rows]
    text, patterns = text_of([HEADER]), {}
    for index, (line, pattern) in enumerate(LINES.values()):
        if index % 3 == 0:
            text += good.pop(0)
        patterns[text.count("\n") + 1] = pattern
        text += line.replace("{0}", text_of(rows[:1]).rstrip()) + "\n"
    path.write_text(text + "".join(good), newline="")
    return patterns
