"""Layouts: what the folders, the file names or a manifest say about each recording, as candidate rows."""

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
from metavox.ingest.file_tree import FoundFile, archive_reason, is_audio, walk
from metavox.ingest.incoming import LAYOUTS, Incoming, ReadContext, Rows, SourceFault
from metavox.ingest.name_patterns import infer_pattern

FIELDS = ("text", "speaker", "language", "speaker_group", "environment", "split", "unit")
LABEL_FOLDERS = "{text}/{}"
MAX_TRANSCRIPT_BYTES = 1 << 16
DETECTION_FILES = 2000  # files whose names the layout is detected from
EXPECTED = "expected one of " + ", ".join(LAYOUTS[1:])


def read(context: ReadContext) -> tuple[Rows, str]:
    """(rows, description of the layout). Raises SourceFault if the source as a whole cannot be read."""
    root, layout = context.root, context.options.layout
    if not root.exists():
        raise SourceFault("no such path", f"{root}: no such file or folder")
    if layout not in LAYOUTS:
        raise SourceFault("layout", f"--layout {layout}: unknown layout; {EXPECTED}")
    evidence = ""
    if layout == "auto":
        layout, evidence = detect(context)
    context.layout = layout
    return READERS[layout](context), f"{layout} ({evidence})" if evidence else layout


def detect(context: ReadContext) -> tuple[str, str]:
    """(layout, the evidence for it). Raises SourceFault if there is none for any layout."""
    root = context.root
    if context.options.pattern:
        return "filename-pattern", "--pattern"
    if root.is_file() and root.suffix.lower() in (".csv", ".tsv", ".txt"):
        return "csv", "a table"
    if root.is_dir() or ".jsonl" in root.name:
        for layout, find_evidence in (
            ("kaldi", datasets.detect_kaldi),
            ("lhotse", lhotse_manifests.detect),
            ("librispeech", datasets.detect_librispeech),
            ("commonvoice", datasets.detect_commonvoice),
            ("speech-commands", datasets.detect_speech_commands),
            ("csv", table_rows.detect),
        ):
            if evidence := find_evidence(root):
                return layout, evidence
    return _detect_from_names(context)


def _detect_from_names(context: ReadContext) -> tuple[str, str]:
    """The layout that the names of files and folders follow, as `detect` returns it."""
    root = context.root
    files = list(islice(walk(root, context.options.allow_outside), DETECTION_FILES))
    audio = [file for file in files if not file.reason and is_audio(file)]
    if 2 * sum(_transcript_path(file) is not None for file in audio) > len(audio):
        return "transcripts", f"each recording beside its text, as {audio[0].name}"
    paths = [[*file.path_parts[:-1], PurePosixPath(file.name).stem] for file in audio]
    pattern = infer_pattern(paths)
    if not pattern:
        problem = "its layout cannot be detected" if audio else "holds no audio"
        if any(len(parts) == 3 for parts in paths):
            advice = "say what each level is: --pattern '{speaker}/{text}/{}' or '{text}/{speaker}/{}'"
        else:
            advice = "choose a --layout, or describe the names with --pattern, such as {speaker}/{text}/{}"
        raise SourceFault("layout", f"{root}: {problem}; {advice}")
    if pattern == LABEL_FOLDERS:
        return "folders", "a folder for each label"
    context.pattern = pattern.replace("{speaker}", "{}") if context.options.speaker else pattern
    expression = compile_pattern(context.pattern)
    rows = (_match(file, context.pattern, expression) for file in audio)
    row = next(row for row in rows if not row.reasons)
    by = f"by {row.speaker}" if row.speaker else ""
    example = " ".join(filter(None, (row.split, row.path, f"is '{shown(row.text)}'", by)))
    return "filename-pattern", f"as --pattern '{context.pattern}': {example}"


def read_label_folders(context: ReadContext) -> Rows:
    """PATH/label/*: the folder is the text."""
    return _read_by_pattern(context, context.options.pattern or LABEL_FOLDERS)


def read_named_files(context: ReadContext) -> Rows:
    """File names or paths that follow a pattern, the user's or the one that was inferred."""
    pattern = context.options.pattern or context.pattern
    if not pattern:
        raise SourceFault(
            "pattern", "--layout filename-pattern: no --pattern; expected one such as {speaker}_{text}_{}"
        )
    return _read_by_pattern(context, pattern)


def _read_by_pattern(context: ReadContext, pattern: str) -> Rows:
    expression = compile_pattern(pattern)
    return (_match(file, pattern, expression) for file in audio_files(context))


def compile_pattern(pattern: str) -> "re.Pattern[str]":
    """`{text}` matches as much as it can, any other field as little; none matches a slash; `{}` is discarded.

    A pattern with a slash applies to the whole path, one without to the file name, both without the suffix.
    Raises SourceFault for an invalid pattern.
    """
    for old, new in old_names.COLUMNS.items():
        pattern = pattern.replace(f"{{{old}}}", f"{{{new}}}")
    parts = re.split(r"\{(\w*)\}", pattern)
    names = [name for name in parts[1::2] if name]
    unknown = [name for name in names if name not in FIELDS]
    if unknown or "text" not in names or len(set(names)) != len(names):
        raise SourceFault(
            "pattern",
            f"--pattern {pattern}: expected {{text}}, at most one each of {', '.join(FIELDS[1:])}, and {{}}",
        )
    expressions = []
    for i, part in enumerate(parts):
        if i % 2 == 0:
            expressions.append(re.escape(part))
        else:
            expressions.append(f"(?P<{part}>[^/]+{'' if part == 'text' else '?'})" if part else "[^/]+?")
    return re.compile("".join(expressions))


def _match(file: FoundFile, pattern: str, expression: "re.Pattern[str]") -> Incoming:
    if file.reason:
        return Incoming(file.name, reasons=(file.reason,))
    parts = file.path_parts
    stem = PurePosixPath(parts[-1]).stem
    match = expression.fullmatch("/".join([*parts[:-1], stem]) if "/" in pattern else stem)
    if match is None:
        return Incoming(file.name, reasons=(f"does not match {pattern}",))
    fields: dict[str, Any] = match.groupdict()
    fields["text"] = fields["text"].replace("_", " ")
    return Incoming(file.name, file.location, **fields)


def audio_files(context: ReadContext) -> Iterator[FoundFile]:
    """Every recording, and everything that is refused unread; other files are counted as ignored."""
    for file in walk(context.root, context.options.allow_outside):
        if not is_audio(file):
            context.ignored += 1
            continue
        yield replace(file, reason=file.reason or archive_reason(file))


def unlisted_files(context: ReadContext, is_listed: Callable[[str], bool]) -> Rows:
    """Recordings in the folder that no row refers to, as refused rows."""
    for file in walk(context.root, context.options.allow_outside):
        path, offset = printable(file.location.file), file.location.offset
        if is_listed(path if offset is None else f"{path}|{offset}"):
            continue
        if is_audio(file):
            reason = file.reason or archive_reason(file) or "no row refers to it"
            yield Incoming(file.name, reasons=(reason,))
        else:
            context.ignored += 1


def read_transcripts(context: ReadContext) -> Rows:
    """NAME.wav beside its text in NAME.txt or NAME.lab; the folder that holds them is the speaker."""
    for file in audio_files(context):
        if file.reason:
            yield Incoming(file.name, reasons=(file.reason,))
            continue
        parts, transcript = file.path_parts, _transcript_path(file)
        speaker = parts[-2] if len(parts) > 1 and not context.options.speaker else ""
        if transcript is None:
            reason = "no text: there is no .txt or .lab of the same name"
            yield Incoming(file.name, file.location, reasons=(reason,))
            continue
        context.ignored -= 1  # the transcript was counted as a file that is not audio
        text, fault = _read_transcript(transcript)
        yield Incoming(
            file.name, file.location, text=text, speaker=speaker, reasons=(fault,) if fault else ()
        )


def _transcript_path(file: FoundFile) -> Path | None:
    """The text file beside a recording; None if there is none."""
    if file.location.offset is not None:
        return None
    candidates = (Path(file.location.file).with_suffix(suffix) for suffix in (".txt", ".lab"))
    return next((path for path in candidates if path.is_file()), None)


def _read_transcript(transcript: Path) -> tuple[str, str]:
    """(text, fault); one of them is empty."""
    try:
        if transcript.stat().st_size > MAX_TRANSCRIPT_BYTES:
            limit = f"more than {MAX_TRANSCRIPT_BYTES} bytes"
            return "", f"{transcript.name} has {limit}; expected the text of one recording"
        encoding, _ = find_encoding(transcript)
        return " ".join(transcript.read_text(encoding=encoding).split()), ""
    except NotThatEncoding as error:
        return "", f"{transcript.name}: {error}; save it as UTF-8"
    except OSError as error:
        return "", f"{transcript.name} cannot be read ({error.strerror})"


READERS: dict[str, Callable[[ReadContext], Rows]] = {
    "folders": read_label_folders,
    "csv": table_rows.read,
    "commonvoice": datasets.read_commonvoice,
    "librispeech": datasets.read_librispeech,
    "kaldi": datasets.read_kaldi,
    "lhotse": lhotse_manifests.read,
    "speech-commands": lambda context: datasets.read_speech_commands(context, audio_files(context)),
    "filename-pattern": read_named_files,
    "transcripts": read_transcripts,
}


def absolute(path: Path) -> Path:
    """The path made absolute, so that the source's name does not depend on the working directory."""
    return path.expanduser().absolute()
