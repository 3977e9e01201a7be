"""lhotse's own manifests: recordings with supervisions, cuts, and Shar folders.

lhotse decodes each line, and the lines are read one by one, so that a broken one costs only its own row. Recordings
are never loaded through lhotse: a manifest may contain commands and URLs, which adding it must not run or fetch.
"""

import gzip
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from metavox.ingest.file_tree import FoundFile, locate, named_members
from metavox.ingest.incoming import AudioLocation, Incoming, ReadContext, Rows, SourceFault

TOLERANCE_S = 0.01  # a supervision that lacks less than this covers the whole recording
KINDS = ("cuts", "supervisions", "recordings")


def detect(root: Path) -> str:
    manifests = _manifests(root)
    kinds = [kind for kind in KINDS if manifests[kind]]
    if "cuts" in kinds:
        return "Shar" if _shar(manifests["cuts"][0]) else "cuts"
    return "recordings and supervisions" if {"recordings", "supervisions"} <= set(kinds) else ""


def read(context: ReadContext) -> Rows:
    if not detect(context.root):
        raise SourceFault(
            "layout",
            f"{context.root}: no lhotse manifest; expected cuts*.jsonl.gz, or recordings* with supervisions*",
        )
    context.find_unlisted = context.root.is_dir()
    manifests = _manifests(context.root)
    if manifests["cuts"]:
        for path in manifests["cuts"]:
            yield from _read_cuts(context, path)
    else:
        yield from _read_supervisions(context, manifests["recordings"], manifests["supervisions"])


def _manifests(root: Path) -> dict[str, list[Path]]:
    """The manifests of each kind by their names; a single file of another name is read as cuts."""
    files = [root] if root.is_file() else sorted(root.iterdir()) if root.is_dir() else []
    files = [path for path in files if path.name.removesuffix(".gz").endswith(".jsonl") and path.is_file()]
    return {
        kind: [path for path in files if kind in path.name]
        or (files if root.is_file() and kind == "cuts" else [])
        for kind in KINDS
    }


def _read_cuts(context: ReadContext, path: Path) -> Rows:
    for line, cut, fault in _items(path):
        if not fault and type(cut).__name__ not in ("MonoCut", "MultiCut"):
            fault = f"a {type(cut).__name__}; expected a cut of one recording, save others with save_audio"
        if fault:
            yield Incoming(getattr(cut, "id", path.name), line=line, reasons=(fault,))
            continue
        row = _cut_recording(context, path, cut, line)
        if row.reasons:
            yield row
            continue
        if not cut.supervisions:
            yield replace(row, reasons=(f"{cut.id}: no supervision, so no text",))
        for supervision in cut.supervisions:
            offset_s = max(0.0, supervision.start)
            start_s = (0.0 if _shar(path) else cut.start) + offset_s
            length_s = min(supervision.end, cut.duration) - offset_s
            yield _with_supervision(row, supervision, cut.recording, start_s, length_s)


def _cut_recording(context: ReadContext, path: Path, cut: Any, line: int) -> Incoming:
    """The row of a cut's recording, without its text."""
    if tar := _shar(path):
        file = _recordings_by_cut(tar).get(cut.id)
        if file is not None:
            reasons = (file.reason,) if file.reason else ()
            return Incoming(f"{tar.name}/{file.name}", file.location, line, reasons=reasons)
        missing = f"{tar.name} holds no recording {cut.id}"
        return Incoming(f"{tar.name}/{cut.id}", line=line, reasons=(missing,))
    if not cut.has_recording:
        return Incoming(cut.id, line=line, reasons=("a cut with features but no recording",))
    return _recording(context, path, cut.recording, line)


def _recording(context: ReadContext, path: Path, recording: Any, line: int) -> Incoming:
    """The row of a recording, without its text; refused unless its source is one untransformed file."""
    sources = recording.sources
    is_file = len(sources) == 1 and sources[0].type == "file"
    name = str(sources[0].source) if is_file else recording.id
    fault = ""
    if not is_file:
        kinds = ", ".join(sorted({source.type for source in sources}))
        fault = f"recording {recording.id}: {len(sources)} source(s) of type {kinds}; expected one file"
    elif recording.transforms:
        fault = f"recording {recording.id}: has transforms, which are not applied; save its audio first"
    if fault:
        return Incoming(name, line=line, reasons=(fault,))
    location, reason = locate(name, path.parent, context.folder, context.options.allow_outside)
    return Incoming(name, location, line, reasons=(reason,) if reason else ())


def _with_supervision(
    row: Incoming, supervision: Any, recording: Any, start_s: float, length_s: float
) -> Incoming:
    """The row of one supervision: the whole recording, or the segment and channel that it covers."""
    if length_s <= 0:
        return replace(row, reasons=(f"{supervision.id}: lasts {length_s:g} s",))
    location = row.location
    assert location is not None
    covers_all = (
        recording is not None and start_s < TOLERANCE_S and length_s > recording.duration - TOLERANCE_S
    )
    channels = supervision.channel if isinstance(supervision.channel, list) else [supervision.channel]
    one_of_several = recording is not None and len(recording.channel_ids) > len(channels) == 1
    return replace(
        row,
        location=AudioLocation(
            location.file,
            location.offset,
            location.size,
            None if covers_all else start_s,
            None if covers_all else start_s + length_s,
            channels[0] if one_of_several else None,
            location.member,
        ),
        text=(supervision.text or "").strip(),
        speaker=supervision.speaker or "",
        language=_language_code(supervision.language or ""),
    )


def _read_supervisions(
    context: ReadContext, recording_manifests: list[Path], supervision_manifests: list[Path]
) -> Rows:
    rows: dict[str, Incoming] = {}
    recordings: dict[str, Any] = {}
    for path in recording_manifests:
        for line, recording, fault in _items(path):
            if fault or not hasattr(recording, "sources"):
                yield Incoming(path.name, line=line, reasons=(fault or "not a recording",))
            elif recording.id in rows:
                repeated = f"{path.name}: the recording is listed twice"
                yield Incoming(recording.id, line=line, reasons=(repeated,))
            else:
                rows[recording.id] = _recording(context, path, recording, line)
                recordings[recording.id] = recording
    used = set()
    for path in supervision_manifests:
        for line, supervision, fault in _items(path):
            recording_id = getattr(supervision, "recording_id", "")
            row = None if fault else rows.get(recording_id)
            if row is None:
                reason = fault or f"no recording {recording_id}"
                yield Incoming(getattr(supervision, "id", path.name), line=line, reasons=(reason,))
                continue
            used.add(recording_id)
            row = replace(row, line=line)
            if row.reasons:
                yield row
                continue
            recording = recordings[recording_id]
            start_s, end_s = max(0.0, supervision.start), min(supervision.end, recording.duration)
            yield _with_supervision(row, supervision, recording, start_s, end_s - start_s)
    for recording_id, row in rows.items():
        if recording_id not in used:
            yield replace(row, reasons=row.reasons or (f"no supervision refers to {recording_id}",))


def _items(path: Path) -> Iterator[tuple[int, Any, str]]:
    """(line number, lhotse's object, fault); the object is None if there is a fault."""
    from lhotse.serialization import decode_json_line, deserialize_item

    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield number, deserialize_item(decode_json_line(line.decode("utf-8"))), ""
                except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
                    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                    yield number, None, f"{path.name}: lhotse cannot read the line ({reason})"
    except (OSError, EOFError) as error:
        raise SourceFault("manifest unreadable", f"{path}: cannot be read ({error})") from error


def _shar(cuts: Path) -> Path | None:
    """The tar with the recordings of a Shar's cuts.000000.jsonl.gz; None if the cuts are not of a Shar."""
    index = cuts.name.split(".")[1:2]
    if not index:
        return None
    tar = cuts.with_name(f"recording.{index[0]}.tar")
    return tar if tar.is_file() else None


@lru_cache(maxsize=2)
def _recordings_by_cut(tar: Path) -> dict[str, FoundFile]:
    """The recordings of a Shar by the ID of their cut, without the .json beside each."""
    return {
        name.rpartition(".")[0]: file
        for name, file in named_members(tar).items()
        if not name.endswith((".json", ".nometa"))
    }


@lru_cache(maxsize=1)
def _codes_by_name() -> dict[str, str]:
    from babel import Locale

    return {name: code for code, name in Locale("en").languages.items() if "_" not in code}


def _language_code(language: str) -> str:
    """lhotse's recipes write "English" where a manifest has "en"."""
    return _codes_by_name().get(language, language)
