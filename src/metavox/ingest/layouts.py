"""Layouts: what the folders, the names or a manifest say of each recording, as rows that want into the corpus."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from metavox import old_names
from metavox.dataset.encodings import NotThatEncoding, find_encoding
from metavox.errors import printable, shown
from metavox.ingest import datasets, lhotse_manifests, table_rows
from metavox.ingest.incoming import LAYOUTS, Given, Incoming, Rows, SourceFault
from metavox.ingest.name_patterns import told_pattern
from metavox.ingest.tree import Found, audio, packed, walk

FIELDS = ("text", "speaker", "language", "speaker_group", "environment", "split", "unit")
LABELS = "{text}/{}"
LONGEST_TEXT = 1 << 16
LOOK_AT = 2000  # files, to guess the layout from
EXPECTED = "expected one of " + ", ".join(LAYOUTS[1:])


def read(given: Given) -> tuple[Rows, str]:
    """(the rows, what the layout was taken for). Raises SourceFault where nothing can be read as a whole."""
    root, layout = given.root, given.options.layout
    if not root.exists():
        raise SourceFault("no such path", f"{root}: no such file or folder")
    if layout not in LAYOUTS:
        raise SourceFault("layout", f"--layout {layout}: not known; {EXPECTED}")
    why = ""
    if layout == "auto":
        layout, why = detect(given)
    given.layout = layout
    return READERS[layout](given), f"{layout} ({why})" if why else layout


def detect(given: Given) -> tuple[str, str]:
    """(layout, what gives it away). Raises SourceFault when nothing does."""
    root = given.root
    if given.options.pattern:
        return "filename-pattern", "--pattern"
    if root.is_file() and root.suffix.lower() in (".csv", ".tsv", ".txt"):
        return "csv", "a table"
    if root.is_dir() or ".jsonl" in root.name:
        for layout, find in (
            ("kaldi", datasets.finds_kaldi),
            ("lhotse", lhotse_manifests.finds),
            ("librispeech", datasets.finds_librispeech),
            ("commonvoice", datasets.finds_commonvoice),
            ("speech-commands", datasets.finds_speech_commands),
            ("csv", table_rows.finds),
        ):
            if what := find(root):
                return layout, what
    return _by_names(given)


def _by_names(given: Given) -> tuple[str, str]:
    """The layout that the names of files and folders follow, as `detect` gives it."""
    root = given.root
    files = list(islice(walk(root, given.options.allow_outside), LOOK_AT))
    found = [one for one in files if not one.reason and audio(one)]
    if 2 * sum(_transcript(one) is not None for one in found) > len(found):
        return "transcripts", f"each recording beside its text, as {found[0].shown}"
    paths = [[*_parts(one)[:-1], PurePosixPath(one.shown).stem] for one in found]
    pattern = told_pattern(paths)
    if not pattern:
        what = "its layout cannot be told" if found else "holds no audio"
        if any(len(parts) == 3 for parts in paths):
            advice = "say which is which: --pattern '{speaker}/{text}/{}' or '{text}/{speaker}/{}'"
        else:
            advice = "name it with --layout, or say with --pattern what the names mean, such as {speaker}/{text}/{}"
        raise SourceFault("layout", f"{root}: {what}; {advice}")
    if pattern == LABELS:
        return "folders", "a folder for each label"
    given.pattern = pattern.replace("{speaker}", "{}") if given.options.speaker else pattern
    expression = compiled(given.pattern)
    rows = (_matched(one, given.pattern, expression) for one in found)
    row = next(row for row in rows if not row.reasons)
    said = " ".join(
        filter(None, (row.split, row.path, f"is '{shown(row.text)}'", row.speaker and f"by {row.speaker}"))
    )
    return "filename-pattern", f"as --pattern '{given.pattern}': {said}"


def by_folder(given: Given) -> Rows:
    """PATH/label/*: the folder is the text."""
    return _by_pattern(given, given.options.pattern or LABELS)


def by_name(given: Given) -> Rows:
    pattern = given.options.pattern or given.pattern
    if not pattern:
        raise SourceFault(
            "pattern", "--layout filename-pattern: no --pattern; expected one such as {speaker}_{text}_{}"
        )
    return _by_pattern(given, pattern)


def _by_pattern(given: Given, pattern: str) -> Rows:
    expression = compiled(pattern)
    return (_matched(found, pattern, expression) for found in heard(given))


def compiled(pattern: str) -> "re.Pattern[str]":
    """`{text}` takes as much as it can, every other field as little, and none a slash; `{}` is thrown away.

    With a slash it is for the whole path, without for the name of the file; the suffix does not belong to it.
    Raises SourceFault.
    """
    for old, new in old_names.COLUMNS.items():
        pattern = pattern.replace(f"{{{old}}}", f"{{{new}}}")
    parts = re.split(r"\{(\w*)\}", pattern)
    names = [name for name in parts[1::2] if name]
    unknown = [name for name in names if name not in FIELDS]
    if unknown or "text" not in names or len(set(names)) != len(names):
        raise SourceFault(
            "pattern",
            f"--pattern {pattern}: expected {{text}}, at most once each {', '.join(FIELDS[1:])}, and {{}}",
        )
    out = []
    for i, part in enumerate(parts):
        if i % 2 == 0:
            out.append(re.escape(part))
        else:
            out.append(f"(?P<{part}>[^/]+{'' if part == 'text' else '?'})" if part else "[^/]+?")
    return re.compile("".join(out))


def _matched(found: Found, pattern: str, expression: "re.Pattern[str]") -> Incoming:
    if found.reason:
        return Incoming(found.shown, reasons=(found.reason,))
    parts = _parts(found)
    name = (
        "/".join([*parts[:-1], PurePosixPath(parts[-1]).stem])
        if "/" in pattern
        else PurePosixPath(parts[-1]).stem
    )
    match = expression.fullmatch(name)
    if match is None:
        return Incoming(found.shown, reasons=(f"does not fit {pattern}",))
    said: dict[str, Any] = match.groupdict()
    said["text"] = said["text"].replace("_", " ")
    return Incoming(found.shown, found.place, **said)


def _parts(found: Found) -> list[str]:
    """The path's parts; an archive on the way is no folder."""
    parts = found.shown.split("/")
    return [part for part in parts[:-1] if not part.endswith(".tar")] + parts[-1:]


def heard(given: Given) -> Iterator[Found]:
    """Every recording there is, and what is refused unread; the rest is counted."""
    for found in walk(given.root, given.options.allow_outside):
        if not audio(found):
            given.ignored += 1
            continue
        yield replace(found, reason=found.reason or packed(found))


def swept(given: Given, named: Callable[[str], bool]) -> Rows:
    """Recordings in the folder that no row names, as refused rows."""
    for found in walk(given.root, given.options.allow_outside):
        file, offset = printable(found.place.file), found.place.offset
        if named(file if offset is None else f"{file}|{offset}"):
            continue
        if audio(found):
            yield Incoming(found.shown, reasons=(found.reason or packed(found) or "no row names it",))
        else:
            given.ignored += 1


def transcripts(given: Given) -> Rows:
    """NAME.wav beside NAME.txt or NAME.lab, which holds what is said; a folder around them is the speaker."""
    for found in heard(given):
        if found.reason:
            yield Incoming(found.shown, reasons=(found.reason,))
            continue
        parts, transcript = _parts(found), _transcript(found)
        speaker = parts[-2] if len(parts) > 1 and not given.options.speaker else ""
        if transcript is None:
            yield Incoming(
                found.shown, found.place, reasons=("no text: no file of its name with .txt or .lab",)
            )
            continue
        given.ignored -= 1  # it was counted as no audio
        text, fault = _text_of(transcript)
        yield Incoming(
            found.shown, found.place, text=text, speaker=speaker, reasons=(fault,) if fault else ()
        )


def _transcript(found: Found) -> Path | None:
    """The file beside a recording that holds what is said in it."""
    if found.place.offset is not None:
        return None
    places = (Path(found.place.file).with_suffix(suffix) for suffix in (".txt", ".lab"))
    return next((place for place in places if place.is_file()), None)


def _text_of(transcript: Path) -> tuple[str, str]:
    """(what it says, what is wrong with it)."""
    try:
        if transcript.stat().st_size > LONGEST_TEXT:
            return "", f"{transcript.name} has more than {LONGEST_TEXT} bytes, expected what is said"
        encoding, _ = find_encoding(transcript)
        return " ".join(transcript.read_text(encoding=encoding).split()), ""
    except NotThatEncoding as error:
        return "", f"{transcript.name}: {error}; save it as UTF-8"
    except OSError as error:
        return "", f"{transcript.name} cannot be read ({error.strerror})"


def speech_commands(given: Given) -> Rows:
    """PATH/word/HASH_nohash_N.wav: the hash is the speaker, and the two lists give the splits.

    lhotse's recipe opens every file before it returns, so one broken file would stop it, and it puts no
    recording of the lists aside by speaker.
    """
    if not given.root.is_dir():
        raise SourceFault("layout", f"{given.root}: no folder; expected one with validation_list.txt")
    splits = {}
    for split, name in (("dev", "validation_list.txt"), ("test", "testing_list.txt")):
        listed = given.root / name
        if listed.is_file():
            lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
            splits.update({line.strip(): split for line in lines})
    fits = re.compile(r"(?P<speaker>[^/_]+)_nohash_\d+")
    for found in heard(given):
        parts = _parts(found)
        match = fits.fullmatch(PurePosixPath(found.shown).stem)
        if found.reason:
            yield Incoming(found.shown, reasons=(found.reason,))
        elif parts[-2:-1] in (["_background_noise_"], ["_silence_"]):
            yield Incoming(found.shown, reasons=("background noise: no word is said in it",))
        elif match is None or len(parts) != 2:
            yield Incoming(found.shown, reasons=("does not fit WORD/SPEAKER_nohash_N.wav",))
        else:
            split = splits.get("/".join(parts), "train")
            yield Incoming(
                found.shown, found.place, text=parts[0], speaker=match["speaker"], language="en", split=split
            )


READERS: dict[str, Callable[[Given], Rows]] = {
    "folders": by_folder,
    "csv": table_rows.read,
    "commonvoice": datasets.commonvoice,
    "librispeech": datasets.librispeech,
    "kaldi": datasets.kaldi,
    "lhotse": lhotse_manifests.read,
    "speech-commands": speech_commands,
    "filename-pattern": by_name,
    "transcripts": transcripts,
}


def root_of(path: Path) -> Path:
    """The path made absolute, so that what it is called does not depend on where the command runs."""
    return path.expanduser().absolute()
