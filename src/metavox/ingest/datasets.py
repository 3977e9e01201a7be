"""Layouts of well-known data sets.

lhotse has recipes for them, but each opens the header of every recording before it returns anything: one broken
file stops all, a row whose file is missing is dropped without a word, and `wav.scp` may run commands. Here every
row is accounted for and nothing is run, so only the small text files are read, by the same rules as the recipes.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from metavox.dataset.encodings import UTF8
from metavox.errors import printable
from metavox.ingest.incoming import Given, Incoming, Place, Rows, SourceFault
from metavox.ingest.table_rows import opened
from metavox.ingest.tree import locate

CV_COLUMNS = ("client_id", "path", "sentence")
CV_SPLITS = ("train", "dev", "test")
PARTS = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")


def finds_librispeech(root: Path) -> str:
    parts = sorted(part.name for part in _librispeech_parts(root))
    return ", ".join(parts)


def librispeech(given: Given) -> Rows:
    """PATH/part/speaker/chapter/*.trans.txt; the part gives the split, the speaker's number the speaker."""
    given.sweep = True
    parts = _librispeech_parts(given.root)
    if not parts:
        raise SourceFault(
            "layout", f"{given.root}: no part of LibriSpeech; expected a folder such as dev-clean"
        )
    for part in parts:
        split = part.name.split("-")[0]
        for transcript in sorted(part.rglob("*.trans.txt")):
            for number, key, text in _pairs(transcript):
                audio = transcript.parent / f"{key}.flac"
                shown = printable(audio.relative_to(given.root).as_posix())
                yield _at(
                    given,
                    shown,
                    audio.as_posix(),
                    number,
                    text=text,
                    split=split,
                    language="en",
                    speaker=f"librispeech-{key.split('-')[0]}",
                )


def _librispeech_parts(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())]
    folders = [folder for folder in folders if os.access(folder, os.R_OK | os.X_OK)]
    return [path for path in folders if PARTS.fullmatch(path.name) and any(path.glob("*/*/*.trans.txt"))]


def finds_commonvoice(root: Path) -> str:
    return ", ".join(folder.name for folder in _commonvoice_languages(root))


def commonvoice(given: Given) -> Rows:
    """PATH/language/{train,dev,test}.tsv and clips/, or PATH one such folder; `validated.tsv` where none is there."""
    given.sweep = True
    languages = _commonvoice_languages(given.root)
    if not languages:
        raise SourceFault(
            "layout", f"{given.root}: no Common Voice; expected train.tsv, dev.tsv, test.tsv and clips/"
        )
    for folder in languages:
        tables = [folder / f"{split}.tsv" for split in CV_SPLITS if (folder / f"{split}.tsv").is_file()]
        for path in tables or [folder / "validated.tsv"]:
            # Common Voice does not quote: a quote in a sentence may stand alone.
            table = opened(given, path, CV_COLUMNS, quoted=False)
            table.require(CV_COLUMNS)
            split = path.stem if path.stem in CV_SPLITS else ""
            for line in table.lines():
                clip = folder / "clips" / line.cells.get("path", "")
                shown = (
                    clip.relative_to(given.root).as_posix() if clip.is_relative_to(given.root) else str(clip)
                )
                if not line.cells.get("path"):
                    yield Incoming(
                        shown, line=line.number, reasons=(f"{path.name}: {line.fault or 'no path'}",)
                    )
                    continue
                if line.fault:
                    yield replace(
                        _at(given, shown, str(clip), line.number), reasons=(f"{path.name}: {line.fault}",)
                    )
                    continue
                cells = line.cells
                yield _at(
                    given,
                    shown,
                    str(clip),
                    line.number,
                    text=cells["sentence"].strip(),
                    split=split,
                    speaker=cells["client_id"].strip(),
                    language=cells.get("locale") or folder.name,
                )


def _commonvoice_languages(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())]
    folders = [folder for folder in folders if os.access(folder, os.R_OK | os.X_OK)]
    names = (*CV_SPLITS, "validated")
    return [
        f for f in folders if (f / "clips").is_dir() and any((f / f"{name}.tsv").is_file() for name in names)
    ]


def finds_speech_commands(root: Path) -> str:
    lists = ("validation_list.txt", "testing_list.txt")
    return " and ".join(lists) if all((root / name).is_file() for name in lists) else ""


def finds_kaldi(root: Path) -> str:
    return "wav.scp" if (root / "wav.scp").is_file() else ""


def kaldi(given: Given) -> Rows:
    """A Kaldi data folder: wav.scp, text, and utt2spk, utt2lang, segments where they are.

    Paths in wav.scp are absolute or relative to the folder. A command there is not run.
    """
    root = given.root
    if not finds_kaldi(root):
        raise SourceFault("layout", f"{root}: no wav.scp; expected a Kaldi data folder")
    given.sweep = True
    wavs: dict[str, tuple[int, str]] = {}
    for number, key, audio in _pairs(root / "wav.scp"):
        if wavs.setdefault(key, (number, audio))[0] != number:
            again = f"wav.scp: {key} is on line {wavs[key][0]} already"
            yield Incoming(key, line=number, reasons=(again,))
    tables = {
        name: {key: value for _, key, value in _pairs(root / name)}
        for name in ("text", "utt2spk", "utt2lang")
    }

    def row(utterance: str, recording: str, number: int, window: dict[str, Any]) -> Incoming:
        said = {
            "text": tables["text"].get(utterance, ""),
            "speaker": tables["utt2spk"].get(utterance, ""),
            "language": tables["utt2lang"].get(utterance, ""),
        }
        audio = wavs.get(recording, (0, ""))[1]
        if not audio or audio.endswith("|"):
            wrong = "a command, which is not run; write what it gives to a file" if audio else "no such id"
            return Incoming(audio or utterance, line=number, reasons=(f"wav.scp, {recording}: {wrong}",))
        return _at(given, audio, audio, number, window, **said)

    if not (root / "segments").is_file():
        for key, (number, _) in wavs.items():
            yield row(key, key, number, {})
        return
    used = set()
    for number, utterance, rest in _pairs(root / "segments"):
        recording, *times = rest.split()
        used.add(recording)
        try:
            start, end = map(float, times)
            if start < 0 or (end != -1 and end <= start):
                raise ValueError
        except ValueError:
            fault = (
                f"segments: {' '.join(times)} are no two times; expected a start and a later end, in seconds"
            )
            yield replace(row(utterance, recording, number, {}), path=utterance, reasons=(fault,))
            continue
        window = {"start_s": start, "end_s": None if end == -1 else end}
        yield row(utterance, recording, number, window)
    for key, (number, audio) in wavs.items():
        if key not in used:
            yield replace(row(key, key, number, {}), path=audio, reasons=(f"no segment names {key}",))


def _pairs(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, first word, the rest) of a file of Kaldi's or LibriSpeech's; nothing where there is none."""
    if not path.is_file():
        return
    try:
        with path.open(encoding=UTF8) as file:
            for number, line in enumerate(file, start=1):
                key, _, rest = (
                    line.strip().partition(" ") if "\t" not in line else line.strip().partition("\t")
                )
                if key:
                    yield number, key, rest.strip()
    except UnicodeDecodeError as error:
        raise SourceFault("encoding", f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise SourceFault("manifest unreadable", f"{path}: cannot be read ({error.strerror})") from error


def _at(
    given: Given, shown: str, audio: str, line: int, window: dict[str, Any] | None = None, **said: str
) -> Incoming:
    place, reason = locate(audio, given.folder, given.folder, given.options.allow_outside)
    if place is not None and window:
        place = Place(place.file, place.offset, place.size, member=place.member, **window)
    return Incoming(shown, place, line, **said, reasons=(reason,) if reason else ())  # type: ignore[arg-type]
