"""Archives as somebody may send them: members that climb out, links, devices, one that is cut."""

import io
import tarfile
from collections.abc import Callable
from typing import Any

from planted.fault import REFUSE, TAKE, Fault, register
from planted.paths import OUT, Ground

MEMBERS: list[Fault] = []
UNSAFE: list[Fault] = []  # no row names them
NO_MEMBER = "holds no|no such|not in the archive|link|device|not a (regular )?file"


def member(file: str, told: str, outcome: str = REFUSE) -> Callable[..., Any]:
    return register(MEMBERS, f"pack.tar/{file}", outcome, told)


def unsafe(file: str) -> Callable[..., Any]:
    return register(UNSAFE, f"pack.tar/{file}", REFUSE, f"{OUT}|absolute")


def file_of(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    return entry, data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.devmajor, entry.devminor = kind, target, 1, 5
    return entry, b""


@member("fine.wav", "", TAKE)
def member_that_is_fine(ground: Ground) -> tuple[tarfile.TarInfo, bytes]:
    return file_of("fine.wav", ground.good)


@unsafe("../up.wav")
def member_that_climbs_out(ground: Ground) -> tuple[tarfile.TarInfo, bytes]:
    return file_of("../up.wav", ground.good)


@unsafe("/root.wav")
def member_with_an_absolute_name(ground: Ground) -> tuple[tarfile.TarInfo, bytes]:
    return file_of("/root.wav", ground.good)


@member("link.wav", NO_MEMBER)
def member_that_is_a_link(ground: Ground) -> tuple[tarfile.TarInfo, bytes]:
    return special("link.wav", tarfile.SYMTYPE, "/etc/passwd")


@member("hard.wav", NO_MEMBER)
def member_that_is_a_hard_link_out(ground: Ground) -> tuple[tarfile.TarInfo, bytes]:
    return special("hard.wav", tarfile.LNKTYPE, "../../outside/secret.wav")


@member("zero.wav", NO_MEMBER)
def member_that_is_a_device(ground: Ground) -> tuple[tarfile.TarInfo, bytes]:
    return special("zero.wav", tarfile.CHRTYPE)


@member("pipe.wav", NO_MEMBER)
def member_that_is_a_pipe(ground: Ground) -> tuple[tarfile.TarInfo, bytes]:
    return special("pipe.wav", tarfile.FIFOTYPE)


@member("empty.wav", "empty")
def member_of_zero_bytes(ground: Ground) -> tuple[tarfile.TarInfo, bytes]:
    return file_of("empty.wav", b"")


@member("gone.wav", NO_MEMBER)
def member_that_is_not_there(ground: Ground) -> None:
    return None


def pack(ground: Callable[[], Ground], name: str = "pack.tar") -> bytes:
    """One archive of all of them; every member has a recording of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for fault in (*MEMBERS, *UNSAFE):
            made = fault.make(ground())
            if made:
                archive.addfile(made[0], io.BytesIO(made[1]))
    return buffer.getvalue()


def cut(good: bytes) -> bytes:
    """An archive whose only member is cut in its middle."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry, data = file_of("a.wav", good)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()[: 512 + len(good) // 2]
