"""Archives as users may get them: members outside the archive, links, devices, a truncated one."""

import io
import tarfile
from collections.abc import Callable
from typing import Any

from planted.fault import REFUSE, TAKE, Fault, register
from planted.paths import OUTSIDE, Site

MEMBERS: list[Fault] = []
UNSAFE: list[Fault] = []  # no row refers to them
NO_MEMBER = "holds no|no such|not in the archive|link|device|not a (regular )?file"


def member(file: str, message: str, outcome: str = REFUSE) -> Callable[..., Any]:
    return register(MEMBERS, f"pack.tar/{file}", outcome, message)


def unsafe(file: str) -> Callable[..., Any]:
    return register(UNSAFE, f"pack.tar/{file}", REFUSE, f"{OUTSIDE}|absolute")


def file_of(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    return entry, data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.devmajor, entry.devminor = kind, target, 1, 5
    return entry, b""


@member("fine.wav", "", TAKE)
def member_that_is_fine(site: Site) -> tuple[tarfile.TarInfo, bytes]:
    return file_of("fine.wav", site.good)


@unsafe("../up.wav")
def member_that_climbs_out(site: Site) -> tuple[tarfile.TarInfo, bytes]:
    return file_of("../up.wav", site.good)


@unsafe("/root.wav")
def member_with_an_absolute_name(site: Site) -> tuple[tarfile.TarInfo, bytes]:
    return file_of("/root.wav", site.good)


@member("link.wav", NO_MEMBER)
def member_that_is_a_link(site: Site) -> tuple[tarfile.TarInfo, bytes]:
    return special("link.wav", tarfile.SYMTYPE, "/etc/passwd")


@member("hard.wav", NO_MEMBER)
def member_that_is_a_hard_link_out(site: Site) -> tuple[tarfile.TarInfo, bytes]:
    return special("hard.wav", tarfile.LNKTYPE, "../../outside/secret.wav")


@member("zero.wav", NO_MEMBER)
def member_that_is_a_device(site: Site) -> tuple[tarfile.TarInfo, bytes]:
    return special("zero.wav", tarfile.CHRTYPE)


@member("pipe.wav", NO_MEMBER)
def member_that_is_a_pipe(site: Site) -> tuple[tarfile.TarInfo, bytes]:
    return special("pipe.wav", tarfile.FIFOTYPE)


@member("empty.wav", "empty")
def member_of_zero_bytes(site: Site) -> tuple[tarfile.TarInfo, bytes]:
    return file_of("empty.wav", b"")


@member("gone.wav", NO_MEMBER)
def member_that_is_not_there(site: Site) -> None:
    return None


def pack(make_site: Callable[[], Site], name: str = "pack.tar") -> bytes:
    """An archive with all of these members; each holds a different recording."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for fault in (*MEMBERS, *UNSAFE):
            made = fault.make(make_site())
            if made:
                archive.addfile(made[0], io.BytesIO(made[1]))
    return buffer.getvalue()


def cut(good: bytes) -> bytes:
    """An archive that ends in the middle of its only member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry, data = file_of("a.wav", good)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()[: 512 + len(good) // 2]
