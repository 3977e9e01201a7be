"""Files under a folder, tar archives looked into; nothing outside it, nothing that is no ordinary file."""

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from metavox.errors import printable
from metavox.ingest.incoming import Place
from metavox.ingest.sound import can_be_heard

# Anything else is looked into: a recording may have any suffix, or none.
AUDIO = (
    "wav wave w64 rf64 flac mp3 mp2 ogg oga opus m4a m4b mp4 m4v mov webm mkv mka avi aac ac3 aif aiff aifc au snd"
    " gsm caf amr awb wma wmv asf 3gp 3g2 ts mts mpg mpeg wv ape tta ogv sph nist voc flv"
)
NO_AUDIO = (
    "txt md rst csv tsv json jsonl yaml yml toml ini cfg conf xml html htm css js log lst list scp ark lab textgrid"
    " trn stm ctm eaf srt vtt lrc sub pdf doc docx odt rtf tex png jpg jpeg gif svg bmp tif tiff webp ico py pyc sh"
    " c h cpp java ipynb bat exe so dll sql db sqlite npy npz pt pth safetensors parquet feather h5 mat gitignore"
    " gitattributes gitkeep ds_store dvc lock bak tmp md5 sha256 sig url desktop"
)
PACKED = "gz tgz bz2 tbz2 xz txz zst zip 7z rar"


@dataclass(frozen=True)
class Found:
    """An ordinary file or a member of an archive, or with `reason` something that is not to be read."""

    shown: str  # relative to the folder, with /
    place: Place
    reason: str = ""


def walk(root: Path, allow_outside: bool) -> Iterator[Found]:
    """Everything under `root`, by name; a tar, as `root` or below it, is looked into.

    What is unsafe, unreadable or no file is yielded with its reason, and nothing of it is opened.
    """
    if root.is_dir():
        yield from _folders(root, allow_outside)
    elif root.suffix == ".tar":
        yield from members(root, "")
    else:
        yield Found(printable(root.name), Place(str(root)))


def audio(found: Found) -> bool:
    """Whether it is a recording, or at least meant to be one."""
    suffix = _suffix(found)
    if found.reason or suffix in AUDIO.split() or suffix in PACKED.split():
        return found.reason != "" or not found.shown.endswith(".jsonl.gz")
    if suffix in NO_AUDIO.split() or PurePosixPath(found.shown).name.lower() in (
        "readme",
        "license",
        "makefile",
    ):
        return False
    return can_be_heard(found.place)


def packed(found: Found) -> str:
    """Why a packed archive is not read; empty for anything else."""
    if _suffix(found) in PACKED.split():
        return "a packed archive; unpack it first, or pack it as .tar"
    return ""


def _suffix(found: Found) -> str:
    return PurePosixPath(found.shown).suffix.lower().lstrip(".")


def _folders(root: Path, allow_outside: bool) -> Iterator[Found]:
    top = os.path.realpath(root)
    entered = {top}
    stack = [(os.fspath(root), "")]
    while stack:
        folder, prefix = stack.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield Found(printable(prefix or "."), Place(folder), f"cannot be listed ({error.strerror})")
            continue
        below = []
        for entry in entries:
            shown = prefix + entry.name
            real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            reason = _unsafe(entry, real, top, allow_outside)
            if not reason and os.path.isdir(real):
                if not entry.is_symlink():
                    below.append((entry.path, shown + "/"))
                elif (
                    not inside(real, top) and real not in entered
                ):  # a link inside leads to what is read anyway
                    entered.add(real)
                    below.append((real, shown + "/"))
            elif not reason and real.endswith(".tar"):
                yield from members(Path(real), printable(shown) + "/")
            else:
                yield Found(printable(shown), Place(real), reason)
        stack += reversed(below)


def _unsafe(entry: "os.DirEntry[str]", real: str, top: str, allow_outside: bool) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    if entry.is_symlink() and not os.path.exists(real):
        return "a link to nothing"
    if entry.is_symlink() and not inside(real, top) and not allow_outside:
        return f"a link that leads outside, to {printable(real)}; copy the file, or add --allow-outside"
    mode = os.stat(real).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "no ordinary file but a pipe, a socket or a device"
    return ""


def inside(real: str, top: str) -> bool:
    return real == top or real.startswith(top.rstrip("/") + "/")


def members(tar: Path, prefix: str) -> Iterator[Found]:
    """The members of a tar that is not packed, in their order, without unpacking anything."""
    seen: set[str] = set()
    try:
        whole = tar.stat().st_size
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                name = PurePosixPath(member.name).as_posix()
                place = Place(str(tar), member.offset_data, member.size, member=name)
                cut = member.offset_data + member.size > whole
                reason = "the archive ends in the middle of it; fetch it again" if cut else ""
                yield Found(prefix + printable(name), place, reason or _unsafe_member(member, name in seen))
                seen.add(name)
    except (tarfile.TarError, OSError, ValueError) as error:
        yield Found(
            prefix.rstrip("/") or printable(tar.name),
            Place(str(tar)),
            f"not a tar that can be read ({error})",
        )


def _unsafe_member(member: tarfile.TarInfo, again: bool) -> str:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "a name that leads out of the archive; pack it again with relative names"
    if member.issym() or member.islnk():
        return f"a link, to {printable(member.linkname)}; pack the file itself"
    if not member.isreg() or member.issparse():
        return "no ordinary file but a pipe, a device or one with holes"
    try:
        member.name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return "a name that is in the archive twice" if again else ""


def named_members(tar: Path) -> dict[str, Found]:
    """The members of a tar by their name."""
    return _named_members(tar, tar.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _named_members(tar: Path, mtime_ns: int) -> dict[str, Found]:
    return {found.shown: found for found in reversed(list(members(tar, "")))}


def locate(given: str, base: Path, top: Path, allow_outside: bool) -> tuple[Place | None, str]:
    """The place of a path that a manifest names, absolute or relative to `base`; or why it has none.

    It may run through a tar. Only what is in `top` is looked at, unless `allow_outside`. A path that Windows wrote,
    with backslashes, is the one with slashes where only that is there.
    """
    place, reason = _locate(given, base, top, allow_outside)
    if reason and "\\" in given:
        slashed, why_not = _locate(given.replace("\\", "/"), base, top, allow_outside)
        if not why_not:
            return slashed, ""
    return place, reason


def _locate(given: str, base: Path, top: Path, allow_outside: bool) -> tuple[Place | None, str]:
    try:
        given.encode()
        folder, name = os.path.split(os.path.join(base, given))
        real = os.path.join(_real(folder), name)
        if name in ("", ".", "..") or os.path.islink(real):
            real = os.path.realpath(real)
        if not allow_outside and not inside(real, _real(os.fspath(top))):
            return Place(real), "leads out of what is added; copy the file there, or add --allow-outside"
        try:
            mode = os.stat(real).st_mode
        except NotADirectoryError:
            return _within_tar(real)
    except FileNotFoundError:
        return Place(real), "no such recording"
    except OSError as error:
        return Place(real), f"no path that can be opened ({error.strerror})"
    except ValueError as error:
        return None, f"no path that can be opened ({error})"
    if not stat.S_ISREG(mode):
        return Place(real), "no ordinary file but a folder, a pipe, a socket or a device"
    return Place(real), ""


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def forget() -> None:
    """Look at folders anew: what was a folder may be a link now."""
    _real.cache_clear()


def _within_tar(real: str) -> tuple[Place | None, str]:
    for parent in Path(real).parents:
        if parent.suffix == ".tar" and parent.is_file():
            found = named_members(parent).get(Path(real).relative_to(parent).as_posix())
            if found is None:
                return None, f"{parent.name} holds no such member"
            return found.place, found.reason
    return None, "no such recording"
