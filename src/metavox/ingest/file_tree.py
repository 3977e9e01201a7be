"""Files below a folder, including members of tar archives; never anything outside it or not a regular file."""

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from metavox.errors import printable
from metavox.ingest.incoming import AudioLocation
from metavox.ingest.inspection import is_decodable

# Files with other suffixes are opened to see whether they are audio: a recording may have any suffix, or none.
AUDIO = (
    "wav wave w64 rf64 flac mp3 mp2 ogg oga opus m4a m4b mp4 m4v mov webm mkv mka avi aac ac3 aif aiff aifc au snd"
    " gsm caf amr awb wma wmv asf 3gp 3g2 ts mts mpg mpeg wv ape tta ogv sph nist voc flv"
)
NOT_AUDIO = (
    "txt md rst csv tsv json jsonl yaml yml toml ini cfg conf xml html htm css js log lst list scp ark lab textgrid"
    " trn stm ctm eaf srt vtt lrc sub pdf doc docx odt rtf tex png jpg jpeg gif svg bmp tif tiff webp ico py pyc sh"
    " c h cpp java ipynb bat exe so dll sql db sqlite npy npz pt pth safetensors parquet feather h5 mat gitignore"
    " gitattributes gitkeep ds_store dvc lock bak tmp md5 sha256 sig url desktop"
)
NOT_AUDIO_NAMES = ("readme", "license", "makefile")
ARCHIVES = "gz tgz bz2 tbz2 xz txz zst zip 7z rar"
RENAME = "its name is not UTF-8; rename it"


@dataclass(frozen=True)
class FoundFile:
    """A regular file or a member of an archive, or with `reason` something that must not be read."""

    name: str  # relative to the folder, with /
    location: AudioLocation
    reason: str = ""

    @property
    def path_parts(self) -> list[str]:
        """The parts of the name; an archive in it does not count as a folder."""
        parts = self.name.split("/")
        return [part for part in parts[:-1] if not part.endswith(".tar")] + parts[-1:]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower().lstrip(".")


def walk(root: Path, allow_outside: bool) -> Iterator[FoundFile]:
    """Everything under `root` in the order of names, members of tar archives included; `root` may be a tar.

    Anything unsafe, unreadable or not a regular file is yielded with its reason and not opened.
    """
    if root.is_dir():
        yield from _walk_folders(root, allow_outside)
    elif root.suffix == ".tar":
        yield from members(root, "")
    else:
        yield FoundFile(printable(root.name), AudioLocation(str(root)))


def is_audio(file: FoundFile) -> bool:
    """Whether it is a recording, or at least meant to be one. An archive counts, so that it is refused by name."""
    if file.reason:
        return True
    if file.suffix in AUDIO.split() or file.suffix in ARCHIVES.split():
        return not file.name.endswith(".jsonl.gz")
    if file.suffix in NOT_AUDIO.split() or PurePosixPath(file.name).name.lower() in NOT_AUDIO_NAMES:
        return False
    return is_decodable(file.location)


def archive_reason(file: FoundFile) -> str:
    """Why a compressed archive is not read; empty for any other file."""
    return (
        "a compressed archive; unpack it first, or repack it as .tar"
        if file.suffix in ARCHIVES.split()
        else ""
    )


def _walk_folders(root: Path, allow_outside: bool) -> Iterator[FoundFile]:
    top = os.path.realpath(root)
    entered = {top}
    stack = [(os.fspath(root), "")]
    while stack:
        folder, prefix = stack.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            reason = f"cannot be listed ({error.strerror})"
            yield FoundFile(printable(prefix or "."), AudioLocation(folder), reason)
            continue
        subfolders = []
        for entry in entries:
            name = prefix + entry.name
            real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            reason = _unsafe_entry(entry, real, top, allow_outside)
            if not reason and os.path.isdir(real):
                if not entry.is_symlink():
                    subfolders.append((entry.path, name + "/"))
                elif (
                    not is_inside(real, top) and real not in entered
                ):  # links inside: the target is read anyway
                    entered.add(real)
                    subfolders.append((real, name + "/"))
            elif not reason and real.endswith(".tar"):
                yield from members(Path(real), printable(name) + "/")
            else:
                yield FoundFile(printable(name), AudioLocation(real), reason)
        stack += reversed(subfolders)


def _unsafe_entry(entry: "os.DirEntry[str]", real: str, top: str, allow_outside: bool) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return RENAME
    if entry.is_symlink() and not os.path.exists(real):
        return "a dangling link"
    if entry.is_symlink() and not is_inside(real, top) and not allow_outside:
        return f"a link that points outside, to {printable(real)}; copy the file, or add --allow-outside"
    mode = os.stat(real).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "not a regular file but a pipe, a socket or a device"
    return ""


def is_inside(real: str, top: str) -> bool:
    return real == top or real.startswith(top.rstrip("/") + "/")


def members(tar: Path, prefix: str) -> Iterator[FoundFile]:
    """The members of an uncompressed tar in their order, without unpacking anything."""
    seen: set[str] = set()
    try:
        archive_size = tar.stat().st_size
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                name = PurePosixPath(member.name).as_posix()
                location = AudioLocation(str(tar), member.offset_data, member.size, member=name)
                truncated = member.offset_data + member.size > archive_size
                reason = (
                    "the archive ends in the middle of it; download or copy it again" if truncated else ""
                )
                reason = reason or _unsafe_member(member, name in seen)
                yield FoundFile(prefix + printable(name), location, reason)
                seen.add(name)
    except (tarfile.TarError, OSError, ValueError) as error:
        name = prefix.rstrip("/") or printable(tar.name)
        yield FoundFile(name, AudioLocation(str(tar)), f"not a tar that can be read ({error})")


def _unsafe_member(member: tarfile.TarInfo, repeated: bool) -> str:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "a name that leads outside the archive; repack it with relative names"
    if member.issym() or member.islnk():
        return f"a link to {printable(member.linkname)}; pack the file itself"
    if not member.isreg() or member.issparse():
        return "not a regular file but a pipe, a device or a sparse file"
    try:
        member.name.encode()
    except UnicodeEncodeError:
        return RENAME
    return "the archive holds two members of this name" if repeated else ""


def named_members(tar: Path) -> dict[str, FoundFile]:
    """The members of a tar by their name; the first of several with the same name."""
    return _named_members(tar, tar.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _named_members(tar: Path, mtime_ns: int) -> dict[str, FoundFile]:
    return {file.name: file for file in reversed(list(members(tar, "")))}


def locate(path: str, base: Path, top: Path, allow_outside: bool) -> tuple[AudioLocation | None, str]:
    """The location of a path in a manifest, absolute or relative to `base`; and the reason if it must not be read.

    The path may lead into a tar. Only files inside `top` are accepted, unless `allow_outside`. A path with
    backslashes, as Windows writes it, is read with slashes if only that file exists.
    """
    location, reason = _locate(path, base, top, allow_outside)
    if reason and "\\" in path:
        with_slashes, still_wrong = _locate(path.replace("\\", "/"), base, top, allow_outside)
        if not still_wrong:
            return with_slashes, ""
    return location, reason


def _locate(path: str, base: Path, top: Path, allow_outside: bool) -> tuple[AudioLocation | None, str]:
    try:
        path.encode()
        folder, name = os.path.split(os.path.join(base, path))
        real = os.path.join(_real(folder), name)
        if name in ("", ".", "..") or os.path.islink(real):
            real = os.path.realpath(real)
        if not allow_outside and not is_inside(real, _real(os.fspath(top))):
            reason = "is outside the folder being added; copy the file into it, or add --allow-outside"
            return AudioLocation(real), reason
        try:
            mode = os.stat(real).st_mode
        except NotADirectoryError:
            return _locate_in_tar(real)
    except FileNotFoundError:
        return AudioLocation(real), "no such recording"
    except OSError as error:
        return AudioLocation(real), f"a path that cannot be opened ({error.strerror})"
    except ValueError as error:
        return None, f"a path that cannot be opened ({error})"
    if not stat.S_ISREG(mode):
        return AudioLocation(real), "not a regular file but a folder, a pipe, a socket or a device"
    return AudioLocation(real), ""


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def clear_path_cache() -> None:
    """Resolve folders anew: one may have been replaced by a link."""
    _real.cache_clear()


def _locate_in_tar(real: str) -> tuple[AudioLocation | None, str]:
    for parent in Path(real).parents:
        if parent.suffix == ".tar" and parent.is_file():
            file = named_members(parent).get(Path(real).relative_to(parent).as_posix())
            if file is None:
                return None, f"{parent.name} holds no such member"
            return file.location, file.reason
    return None, "no such recording"
