"""Base models from folders: used in place, copied into the store under a name, or converted from CTranslate2."""

import shutil
from pathlib import Path

from metavox.errors import UserError
from metavox.recognisers.bases import store
from metavox.recognisers.bases.digests import bytes_digest
from metavox.recognisers.bases.files import INDEX, MODEL, PARTS, check, files_below, size_bytes
from metavox.recognisers.registry import kind_of

CTRANSLATE2 = "model.bin"
COPIED = (".json", ".txt", ".safetensors", ".md")


def is_ctranslate2(folder: Path) -> bool:
    """Whether the folder holds a CTranslate2 model, the form that faster-whisper uses."""
    return (folder / CTRANSLATE2).is_file() and not any((folder / name).is_file() for name in (MODEL, INDEX))


def source_of(folder: Path) -> store.Source:
    """The source of a folder that is used in place. Raises UserError for one that cannot be used."""
    check(folder, kind_of(folder))
    known = store.read_source(folder)
    return known or store.Source(folder.resolve().name, f"the folder {folder}")


def converted_name(folder: Path) -> str:
    """The default name in the store of a CTranslate2 folder, derived from its content."""
    safe_name = (
        "".join(c if c.isalnum() or c in "._-" else "-" for c in folder.resolve().name).strip("._-")
        or "model"
    )
    return f"{safe_name[:40]}-{bytes_digest(folder / CTRANSLATE2)[:8]}"


def add(folder: Path, name: str, tell: store.Tell = store.to_stderr) -> store.Source:
    """Add a folder to the store as `name`. The caller holds its lock.

    Raises UserError for a folder that cannot be used, an int8 model, or a disk that is too small.
    """
    known = store.read_source(folder)
    converting = is_ctranslate2(folder)
    if not converting:
        check(folder, kind_of(folder))
    store.need_space(name, size_bytes(folder))
    partial = store.partial(name)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with store.space_errors(name):
            if converting:
                from metavox.recognisers.whisper.ctranslate2 import convert

                tell(f"converting {folder} to Hugging Face's form, once")
                convert(folder, partial)
            else:
                _copy(folder, partial)
            check(partial, kind_of(partial))
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
            store.write_source(partial, source)
            store.put(partial, name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return source


def _copy(folder: Path, target: Path) -> None:
    """Copy weights, JSON and text, and the parts that belong to them; nothing else in a folder is part of a
    base model.
    """
    target.mkdir()
    for file in files_below(folder):
        relative = file.relative_to(folder)
        if file.suffix in COPIED and relative.parts[:-1] in ((), *((part,) for part in PARTS)):
            (target / relative).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target / relative)


def check_name(name: str) -> None:
    """Raise UserError for a name that no base model can have."""
    if not store.NAME.fullmatch(name):
        raise UserError(
            f"--name {name}: expected letters, digits, dots, dashes and underscores; choose another name"
        )
