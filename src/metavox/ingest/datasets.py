"""Layouts of well-known data sets.

lhotse has recipes for them, but each opens the header of every recording before it returns anything: one broken
file stops the whole import, a row whose file is missing is dropped silently, and `wav.scp` may run commands. Here
every row is accounted for and nothing is run, so these readers read only the small text files, by the same rules
as the recipes.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from metavox.dataset.encodings import UTF8
from metavox.dataset.tables import Line
from metavox.errors import printable
from metavox.ingest.file_tree import FoundFile, locate
from metavox.ingest.incoming import AudioLocation, Incoming, ReadContext, Rows, SourceFault
from metavox.ingest.table_rows import open_source_table

COMMONVOICE_COLUMNS = ("client_id", "path", "sentence")
COMMONVOICE_SPLITS = ("train", "dev", "test")
LIBRISPEECH_SUBSET = re.compile(r"(train|dev|test)-(clean|other)(-\d+)?")
SPEECH_COMMANDS_LISTS = {"validation_list.txt": "dev", "testing_list.txt": "test"}
SPEECH_COMMANDS_NAME = re.compile(r"(?P<speaker>[^/_]+)_nohash_\d+")


def detect_librispeech(root: Path) -> str:
    return ", ".join(sorted(subset.name for subset in _librispeech_subsets(root)))


def read_librispeech(context: ReadContext) -> Rows:
    """PATH/subset/speaker/chapter/*.trans.txt; the subset gives the split, the reader's number the speaker."""
    context.find_unlisted = True
    subsets = _librispeech_subsets(context.root)
    if not subsets:
        raise SourceFault(
            "layout", f"{context.root}: no subset of LibriSpeech; expected a folder such as dev-clean"
        )
    for subset in subsets:
        split = subset.name.split("-")[0]
        for transcript in sorted(subset.rglob("*.trans.txt")):
            for line, utterance, text in _keyed_lines(transcript):
                audio = transcript.parent / f"{utterance}.flac"
                yield _located(
                    context,
                    printable(audio.relative_to(context.root).as_posix()),
                    audio.as_posix(),
                    line,
                    text=text,
                    split=split,
                    language="en",
                    speaker=f"librispeech-{utterance.split('-')[0]}",
                )


def _librispeech_subsets(root: Path) -> list[Path]:
    return [
        folder
        for folder in _readable_folders(root)
        if LIBRISPEECH_SUBSET.fullmatch(folder.name) and any(folder.glob("*/*/*.trans.txt"))
    ]


def detect_commonvoice(root: Path) -> str:
    return ", ".join(folder.name for folder in _commonvoice_languages(root))


def read_commonvoice(context: ReadContext) -> Rows:
    """PATH/language/{train,dev,test}.tsv and clips/, or PATH as one such folder; without them `validated.tsv`."""
    context.find_unlisted = True
    languages = _commonvoice_languages(context.root)
    if not languages:
        raise SourceFault(
            "layout", f"{context.root}: not Common Voice; expected train.tsv, dev.tsv, test.tsv and clips/"
        )
    for folder in languages:
        tables = [folder / f"{split}.tsv" for split in COMMONVOICE_SPLITS]
        tables = [path for path in tables if path.is_file()]
        for path in tables or [folder / "validated.tsv"]:
            # Common Voice does not quote cells: a sentence may contain a lone quote.
            table = open_source_table(context, path, COMMONVOICE_COLUMNS, quoted=False)
            table.require(COMMONVOICE_COLUMNS)
            for line in table.lines():
                yield _commonvoice_row(context, path, line)


def _commonvoice_row(context: ReadContext, table: Path, line: Line) -> Incoming:
    cells = line.cells
    clip = table.parent / "clips" / cells.get("path", "")
    name = clip.relative_to(context.root).as_posix() if clip.is_relative_to(context.root) else str(clip)
    if not cells.get("path"):
        return Incoming(name, line=line.number, reasons=(f"{table.name}: {line.fault or 'no path'}",))
    if line.fault:
        row = _located(context, name, str(clip), line.number)
        return replace(row, reasons=(f"{table.name}: {line.fault}",))
    return _located(
        context,
        name,
        str(clip),
        line.number,
        text=cells["sentence"].strip(),
        split=table.stem if table.stem in COMMONVOICE_SPLITS else "",
        speaker=cells["client_id"].strip(),
        language=cells.get("locale") or table.parent.name,
    )


def _commonvoice_languages(root: Path) -> list[Path]:
    tables = [f"{name}.tsv" for name in (*COMMONVOICE_SPLITS, "validated")]
    return [
        folder
        for folder in _readable_folders(root)
        if (folder / "clips").is_dir() and any((folder / table).is_file() for table in tables)
    ]


def _readable_folders(root: Path) -> list[Path]:
    """`root` and the folders in it, without symbolic links; none if `root` is not a folder."""
    if not root.is_dir():
        return []
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())]
    return [folder for folder in folders if os.access(folder, os.R_OK | os.X_OK)]


def detect_speech_commands(root: Path) -> str:
    lists = SPEECH_COMMANDS_LISTS
    return " and ".join(lists) if all((root / name).is_file() for name in lists) else ""


def read_speech_commands(context: ReadContext, files: Iterable[FoundFile]) -> Rows:
    """PATH/word/HASH_nohash_N.wav: the hash is the speaker, and the two lists give the splits."""
    if not context.root.is_dir():
        raise SourceFault("layout", f"{context.root}: not a folder; expected one with validation_list.txt")
    splits = {}
    for name, split in SPEECH_COMMANDS_LISTS.items():
        if (context.root / name).is_file():
            lines = (context.root / name).read_text(encoding="utf-8", errors="replace").splitlines()
            splits.update({line.strip(): split for line in lines})
    for file in files:
        parts = file.path_parts
        match = SPEECH_COMMANDS_NAME.fullmatch(PurePosixPath(file.name).stem)
        if file.reason:
            yield Incoming(file.name, reasons=(file.reason,))
        elif parts[-2:-1] in (["_background_noise_"], ["_silence_"]):
            yield Incoming(file.name, reasons=("background noise: it contains no word",))
        elif match is None or len(parts) != 2:
            yield Incoming(file.name, reasons=("does not match WORD/SPEAKER_nohash_N.wav",))
        else:
            yield Incoming(
                file.name,
                file.location,
                text=parts[0],
                speaker=match["speaker"],
                language="en",
                split=splits.get("/".join(parts), "train"),
            )


def detect_kaldi(root: Path) -> str:
    return "wav.scp" if (root / "wav.scp").is_file() else ""


def read_kaldi(context: ReadContext) -> Rows:
    """A Kaldi data folder: wav.scp and text, with utt2spk, utt2lang and segments if they exist.

    Paths in wav.scp are absolute or relative to the folder. Commands in it are not run.
    """
    root = context.root
    if not detect_kaldi(root):
        raise SourceFault("layout", f"{root}: no wav.scp; expected a Kaldi data folder")
    context.find_unlisted = True
    recordings: dict[str, tuple[int, str]] = {}
    for line, recording, audio in _keyed_lines(root / "wav.scp"):
        if recordings.setdefault(recording, (line, audio))[0] != line:
            repeated = f"wav.scp: {recording} is already on line {recordings[recording][0]}"
            yield Incoming(recording, line=line, reasons=(repeated,))
    tables = {
        name: {key: value for _, key, value in _keyed_lines(root / name)}
        for name in ("text", "utt2spk", "utt2lang")
    }

    def row(utterance: str, recording: str, line: int, times: dict[str, Any]) -> Incoming:
        audio = recordings.get(recording, (0, ""))[1]
        if not audio or audio.endswith("|"):
            problem = "a command, which is not run; write its output to a file" if audio else "no such ID"
            return Incoming(audio or utterance, line=line, reasons=(f"wav.scp, {recording}: {problem}",))
        return _located(
            context,
            audio,
            audio,
            line,
            times,
            text=tables["text"].get(utterance, ""),
            speaker=tables["utt2spk"].get(utterance, ""),
            language=tables["utt2lang"].get(utterance, ""),
        )

    if not (root / "segments").is_file():
        for recording, (line, _) in recordings.items():
            yield row(recording, recording, line, {})
        return
    used = set()
    for line, utterance, rest in _keyed_lines(root / "segments"):
        recording, *fields = rest.split()
        used.add(recording)
        times = _segment_times(fields)
        if times is None:
            fault = f"segments: {' '.join(fields)!r} is not a segment; expected a start and a later end, in seconds"
            yield replace(row(utterance, recording, line, {}), path=utterance, reasons=(fault,))
        else:
            yield row(utterance, recording, line, times)
    for recording, (line, audio) in recordings.items():
        if recording not in used:
            unused = f"no segment refers to {recording}"
            yield replace(row(recording, recording, line, {}), path=audio, reasons=(unused,))


def _segment_times(fields: list[str]) -> dict[str, Any] | None:
    """The start and the end in seconds, with None for the end of the file; None if they are not valid."""
    try:
        start_s, end_s = map(float, fields)
    except ValueError:
        return None
    if start_s < 0 or (end_s != -1 and end_s <= start_s):
        return None
    return {"start_s": start_s, "end_s": None if end_s == -1 else end_s}


def _keyed_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line number, first word, rest of the line) of a file of Kaldi or LibriSpeech; nothing if there is no file."""
    if not path.is_file():
        return
    try:
        with path.open(encoding=UTF8) as file:
            for number, line in enumerate(file, start=1):
                key, _, rest = line.strip().partition("\t" if "\t" in line else " ")
                if key:
                    yield number, key, rest.strip()
    except UnicodeDecodeError as error:
        raise SourceFault("encoding", f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise SourceFault("manifest unreadable", f"{path}: cannot be read ({error.strerror})") from error


def _located(
    context: ReadContext,
    name: str,
    audio: str,
    line: int,
    times: dict[str, Any] | None = None,
    **values: str,
) -> Incoming:
    """The row of the audio at a path; refused if there is no audio that may be read."""
    location, reason = locate(audio, context.folder, context.folder, context.options.allow_outside)
    if location is not None and times:
        location = AudioLocation(
            location.file, location.offset, location.size, member=location.member, **times
        )
    return Incoming(name, location, line, **values, reasons=(reason,) if reason else ())  # type: ignore[arg-type]
