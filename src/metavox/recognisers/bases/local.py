"""Bases from folders: used where they lie, copied into the store under a name, or converted from CTranslate2's form."""

import shutil
from pathlib import Path

from metavox.errors import UserError
from metavox.recognisers.bases import store
from metavox.recognisers.bases.digests import bytes_digest
from metavox.recognisers.bases.files import INDEX, MODEL, check, files_below, size_bytes
from metavox.recognisers.registry import SHORT_CONTEXT, START, kind_of

CTRANSLATE2 = "model.bin"
COPIED = (".json", ".txt", ".safetensors", ".md")


def is_ctranslate2(folder: Path) -> bool:
    """Whether it is a model as faster-whisper's users have it."""
    return (folder / CTRANSLATE2).is_file() and not any((folder / name).is_file() for name in (MODEL, INDEX))


def source_of(folder: Path) -> store.Source:
    """What a folder that is used where it lies says of itself. Raises UserError for one that cannot be used."""
    check(folder, kind_of(folder))
    known = store.read_source(folder)
    return known or store.Source(folder.resolve().name, f"the folder {folder}")


def converted_name(folder: Path) -> str:
    """What a CTranslate2 folder is called in the store when nobody gave it a name; by what it holds."""
    plain = (
        "".join(c if c.isalnum() or c in "._-" else "-" for c in folder.resolve().name).strip("._-")
        or "model"
    )
    return f"{plain[:40]}-{bytes_digest(folder / CTRANSLATE2)[:8]}"


def add(folder: Path, name: str, tell: store.Tell = store.to_stderr) -> store.Source:
    """Bring a folder into the store as `name`. The caller holds its lock.

    Raises UserError for a folder that cannot be used, an int8 model, a disk that is too small.
    """
    known = store.read_source(folder)
    converting = is_ctranslate2(folder)
    if not converting:
        check(folder, kind_of(folder))
    store.need_space(name, size_bytes(folder))
    aside = store.partial(name)
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with store.space_errors(name):
            if converting:
                from metavox.recognisers.whisper.ctranslate2 import convert

                tell(f"converting {folder} to Hugging Face's form, once")
                convert(folder, aside)
            else:
                _copy(folder, aside)
            check(aside, kind_of(aside))
            where = known.where if known else f"the folder {folder.resolve()}"
            revision = f"sha256:{bytes_digest(folder / CTRANSLATE2)}" if converting else ""
            source = store.Source(
                name,
                where,
                known.revision if known else revision,
                known.asked if known else "",
                known.licence if known else "",
                known.languages if known else (),
            )
            store.write_source(aside, source)
            store.put(aside, name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return source


def _copy(folder: Path, target: Path) -> None:
    """Weights, JSON and text, and the deltas that belong to them: nothing else of a folder is a base."""
    target.mkdir()
    for file in files_below(folder):
        inside = file.relative_to(folder)
        if file.suffix in COPIED and inside.parts[:-1] in ((), (SHORT_CONTEXT,), (START,)):
            (target / inside).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target / inside)


def must_be_free(name: str) -> None:
    """Raises UserError for a name that no base can have."""
    if not store.NAME.fullmatch(name):
        raise UserError(
            f"--name {name}: letters, digits, dot, dash and underscore are expected; choose another name"
        )
