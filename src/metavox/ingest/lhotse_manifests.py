"""lhotse's own manifests: recordings with supervisions, cuts, and Shar folders.

lhotse decodes each line; the lines are read one by one, so that a broken one costs one row. Recordings are never
loaded through lhotse: a manifest may name commands and addresses, which nobody should run by adding it.
"""

import gzip
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from metavox.ingest.incoming import Given, Incoming, Place, Rows, SourceFault
from metavox.ingest.tree import Found, locate, named_members

WHOLE_S = 0.01  # a part that lacks less than this is the whole
FOUND = ("cuts", "supervisions", "recordings")


def finds(root: Path) -> str:
    manifests = _manifests(root)
    kinds = [kind for kind in FOUND if manifests[kind]]
    if "cuts" in kinds:
        return "Shar" if _shar(manifests["cuts"][0]) else "cuts"
    return "recordings and supervisions" if {"recordings", "supervisions"} <= set(kinds) else ""


def read(given: Given) -> Rows:
    if not finds(given.root):
        raise SourceFault(
            "layout",
            f"{given.root}: no lhotse manifest; expected cuts*.jsonl.gz, or recordings* with supervisions*",
        )
    given.sweep = given.root.is_dir()
    manifests = _manifests(given.root)
    if manifests["cuts"]:
        for path in manifests["cuts"]:
            yield from _cuts(given, path)
    else:
        yield from _supervisions(given, manifests["recordings"], manifests["supervisions"])


def _manifests(root: Path) -> dict[str, list[Path]]:
    files = [root] if root.is_file() else sorted(root.iterdir()) if root.is_dir() else []
    files = [path for path in files if path.name.removesuffix(".gz").endswith(".jsonl") and path.is_file()]
    return {
        kind: [path for path in files if kind in path.name]
        or (files if root.is_file() and kind == "cuts" else [])
        for kind in FOUND
    }


def _cuts(given: Given, path: Path) -> Rows:
    for number, cut, fault in _items(path):
        if not fault and type(cut).__name__ != "MonoCut" and type(cut).__name__ != "MultiCut":
            fault = (
                f"a {type(cut).__name__}; expected a cut of one recording, save the others with save_audio"
            )
        if fault:
            yield Incoming(getattr(cut, "id", path.name), line=number, reasons=(fault,))
            continue
        base = _of_cut(given, path, cut, number)
        if base.reasons:
            yield base
        elif not cut.supervisions:
            yield replace(base, reasons=(f"{cut.id}: no supervision, so no text",))
        for supervision in cut.supervisions if not base.reasons else ():
            start = (0.0 if _shar(path) else cut.start) + max(0.0, supervision.start)
            length = min(supervision.end, cut.duration) - max(0.0, supervision.start)
            yield _said(base, supervision, cut.recording, start, length)


def _of_cut(given: Given, path: Path, cut: Any, number: int) -> Incoming:
    """The recording of a cut, without what is said in it."""
    if shar := _shar(path):
        found = _by_cut(shar).get(cut.id)
        if found is not None:
            reasons = (found.reason,) if found.reason else ()
            return Incoming(f"{shar.name}/{found.shown}", found.place, number, reasons=reasons)
        return Incoming(
            f"{shar.name}/{cut.id}", line=number, reasons=(f"{shar.name} holds no recording {cut.id}",)
        )
    if not cut.has_recording:
        return Incoming(cut.id, line=number, reasons=("a cut without a recording, of features alone",))
    return _of_recording(given, path, cut.recording, number)


def _of_recording(given: Given, path: Path, recording: Any, number: int) -> Incoming:
    sources = recording.sources
    shown = str(sources[0].source) if len(sources) == 1 and sources[0].type == "file" else recording.id
    fault = ""
    if len(sources) != 1 or sources[0].type != "file":
        kinds = ", ".join(sorted({source.type for source in sources}))
        fault = f"recording {recording.id}: {len(sources)} source of type {kinds}; expected one file"
    elif recording.transforms:
        fault = f"recording {recording.id}: has transforms, which are not applied; save its audio first"
    if fault:
        return Incoming(shown, line=number, reasons=(fault,))
    place, fault = locate(shown, path.parent, given.folder, given.options.allow_outside)
    return Incoming(shown, place, number, reasons=(fault,) if fault else ())


def _said(base: Incoming, supervision: Any, recording: Any, start: float, length: float) -> Incoming:
    """The row of one supervision; a part of the recording only where it is one."""
    place = base.place
    assert place is not None
    whole = recording is not None and start < WHOLE_S and length > recording.duration - WHOLE_S
    channels = supervision.channel if isinstance(supervision.channel, list) else [supervision.channel]
    several = recording is not None and len(recording.channel_ids) > len(channels) == 1
    place = Place(
        place.file,
        place.offset,
        place.size,
        None if whole else start,
        None if whole else start + length,
        channels[0] if several else None,
        place.member,
    )
    if length <= 0:
        return replace(base, reasons=(f"{supervision.id}: lasts {length:g} s",))
    return replace(
        base,
        place=place,
        text=(supervision.text or "").strip(),
        speaker=supervision.speaker or "",
        language=_code(supervision.language or ""),
    )


def _supervisions(given: Given, recordings: list[Path], supervisions: list[Path]) -> Rows:
    known: dict[str, Incoming] = {}
    about: dict[str, Any] = {}
    for path in recordings:
        for number, recording, fault in _items(path):
            if fault or not hasattr(recording, "sources"):
                yield Incoming(path.name, line=number, reasons=(fault or "no recording",))
            elif recording.id in known:
                yield Incoming(
                    recording.id, line=number, reasons=(f"{path.name}: names the recording again",)
                )
            else:
                known[recording.id], about[recording.id] = (
                    _of_recording(given, path, recording, number),
                    recording,
                )
    used = set()
    for path in supervisions:
        for number, supervision, fault in _items(path):
            base = None if fault else known.get(getattr(supervision, "recording_id", ""))
            if base is None:
                missing = f"no recording {getattr(supervision, 'recording_id', '')}"
                yield Incoming(
                    getattr(supervision, "id", path.name), line=number, reasons=(fault or missing,)
                )
                continue
            used.add(supervision.recording_id)
            base = replace(base, line=number)
            if base.reasons:
                yield base
            else:
                start, end = (
                    max(0.0, supervision.start),
                    min(supervision.end, about[supervision.recording_id].duration),
                )
                yield _said(base, supervision, about[supervision.recording_id], start, end - start)
    for name, base in known.items():
        if name not in used:
            yield replace(base, reasons=base.reasons or (f"no supervision names {name}",))


def _items(path: Path) -> Iterator[tuple[int, Any, str]]:
    """(line, what lhotse makes of it, fault)."""
    from lhotse.serialization import decode_json_line, deserialize_item

    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield number, deserialize_item(decode_json_line(line.decode("utf-8"))), ""
                except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
                    reason = " ".join(str(error).split())[:200]
                    yield (
                        number,
                        None,
                        f"{path.name}: no line that lhotse can read ({type(error).__name__}: {reason})",
                    )
    except (OSError, EOFError) as error:
        raise SourceFault("manifest unreadable", f"{path}: cannot be read ({error})") from error


def _shar(cuts: Path) -> Path | None:
    """The tar with the recordings of a Shar's cuts.000000.jsonl.gz."""
    number = cuts.name.split(".")[1:2]
    tar = cuts.with_name(f"recording.{number[0]}.tar") if number else cuts
    return tar if number and tar.is_file() else None


@lru_cache(maxsize=2)
def _by_cut(tar: Path) -> dict[str, Found]:
    """The recordings of a Shar by the id of their cut; beside each stands its .json."""
    return {
        name.rpartition(".")[0]: found
        for name, found in named_members(tar).items()
        if not name.endswith((".json", ".nometa"))
    }


@lru_cache(maxsize=1)
def _codes() -> dict[str, str]:
    from babel import Locale

    return {name: code for code, name in Locale("en").languages.items() if "_" not in code}


def _code(language: str) -> str:
    """lhotse's recipes write "English" where the manifest wants "en"."""
    return _codes().get(language, language)
