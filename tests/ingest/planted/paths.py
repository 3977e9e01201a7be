"""Paths to missing files, outside files, or things that are not files; each function creates the file, if there is one.

`Fault.file` is the path in the manifest; {outside} stands for a folder beside the tree.
"""

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

from planted.fault import EITHER, REFUSE, TAKE, Fault, register

PATHS: list[Fault] = []  # the manifest has a row for each
UNLISTED: list[Fault] = []  # files that no row refers to
OUTSIDE = "outside|leads out|leaves|allow-outside"
MISSING = "no such"
NOT_A_FILE = "not a (regular |plain )?file|no (regular |plain )?file|no such recording"


@dataclass(frozen=True)
class Site:
    tree: Path
    outside: Path  # holds secret.wav, a good recording
    good: bytes  # another good recording for every fault
    web: str  # http://127.0.0.1:PORT, which must not be requested


def path(file: str, message: str, outcome: str = REFUSE) -> Callable[..., Any]:
    return register(PATHS, file, outcome, message)


def unlisted(file: str, message: str, outcome: str = REFUSE) -> Callable[..., Any]:
    return register(UNLISTED, file, outcome, message)


accepted = partial(path, outcome=TAKE)


def here(site: Site, name: str) -> Path:
    file = site.tree / name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


# --- missing


@path("missing.wav", MISSING)
def file_that_is_not_there(site: Site) -> None:
    pass


@path("no/such/folder/a.wav", MISSING)
def folder_that_is_not_there(site: Site) -> None:
    pass


@path("", "path|no such|folder|directory")
def path_empty(site: Site) -> None:
    pass


@path("folder.wav", "folder|directory|" + NOT_A_FILE)
def folder_named_wav(site: Site) -> None:
    here(site, "folder.wav").mkdir()


@path(f"{'long' * 80}.wav", f"{MISSING}|too long")
def name_longer_than_any_file_may_have(site: Site) -> None:
    pass


@path("deep/" * 900 + "a.wav", f"{MISSING}|too long")
def path_longer_than_any_path_may_be(site: Site) -> None:
    pass


@path("dangling.wav", f"{MISSING}|dangling|leads to nothing|link")
def link_to_nothing(site: Site) -> None:
    here(site, "dangling.wav").symlink_to("nothing.wav")


@path("loop-a.wav", f"loop|circle|levels|link|{MISSING}")
def links_to_each_other(site: Site) -> None:
    here(site, "loop-a.wav").symlink_to("loop-b.wav")
    here(site, "loop-b.wav").symlink_to("loop-a.wav")


@path("round/round/round/a.wav", f"{MISSING}|loop|link|listed")
def folder_that_links_to_itself(site: Site) -> None:
    """A walk that follows links never ends."""
    here(site, "round").mkdir()
    (site.tree / "round" / "round").symlink_to(".")


# --- outside


@path("../outside/secret.wav", OUTSIDE)
def path_that_climbs_out(site: Site) -> None:
    pass


@path("a/../../outside/secret.wav", OUTSIDE)
def path_that_climbs_out_of_a_folder(site: Site) -> None:
    here(site, "a/x").parent.mkdir(exist_ok=True)


@path("{outside}/secret.wav", OUTSIDE)
def absolute_path(site: Site) -> None:
    pass


@path("/etc/passwd", OUTSIDE + "|not audio")
def absolute_path_to_a_file_that_is_not_audio(site: Site) -> None:
    pass


@path("link-out.wav", OUTSIDE)
def link_out_of_the_tree(site: Site) -> None:
    here(site, "link-out.wav").symlink_to(site.outside / "secret.wav")


@path("folder-out/secret.wav", OUTSIDE)
def folder_link_out_of_the_tree(site: Site) -> None:
    here(site, "folder-out").symlink_to(site.outside)


@path("{web}/a.wav", f"{MISSING}|URL|address|fetch|download")
def web_address(site: Site) -> None:
    pass


@path("file://{outside}/secret.wav", f"{MISSING}|URL|address|{OUTSIDE}")
def address_of_a_file(site: Site) -> None:
    pass


@path("list.m3u8", "not audio|playlist")
def playlist_of_an_address(site: Site) -> None:
    lines = ("#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:9", "#EXTINF:9.0,", f"{site.web}/a.ts")
    here(site, "list.m3u8").write_text("\n".join((*lines, "#EXT-X-ENDLIST", "")))


@path("list.mp3", "not audio|playlist")
def playlist_of_a_file_outside(site: Site) -> None:
    here(site, "list.mp3").write_text(f"ffconcat version 1.0\nfile '{site.outside}/secret.wav'\n")


# --- not a file


@path("pipe.wav", f"pipe|fifo|{NOT_A_FILE}")
def pipe_that_nobody_writes_to(site: Site) -> None:
    """Opening it blocks forever."""
    os.mkfifo(here(site, "pipe.wav"))


@path("socket.wav", f"socket|{NOT_A_FILE}")
def socket_named_wav(site: Site) -> None:
    working_folder = Path.cwd()
    os.chdir(site.tree)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.wav")
    finally:
        os.chdir(working_folder)


@path("zero.wav", f"device|{NOT_A_FILE}")
def device_that_never_ends(site: Site) -> None:
    """Like /dev/zero. Raises PermissionError if the user may not create devices."""
    os.mknod(here(site, "zero.wav"), 0o666 | stat.S_IFCHR, os.makedev(1, 5))


@path("link-zero.wav", f"device|{NOT_A_FILE}|{OUTSIDE}")
def link_to_a_device_that_never_ends(site: Site) -> None:
    here(site, "link-zero.wav").symlink_to("/dev/zero")


@path("locked.wav", "permission|may not|not readable|cannot be read")
def file_that_may_not_be_read(site: Site) -> None:
    here(site, "locked.wav").write_bytes(site.good)
    (site.tree / "locked.wav").chmod(0)


@path("closed/a.wav", f"permission|may not|cannot be read|{MISSING}")
def folder_that_may_not_be_entered(site: Site) -> None:
    here(site, "closed/a.wav").write_bytes(site.good)
    (site.tree / "closed").chmod(0)


# --- unusual but valid names


@accepted("with space  twice.wav", "")
def name_with_spaces(site: Site) -> None:
    here(site, "with space  twice.wav").write_bytes(site.good)


@path("new\nline.wav", "line break|newline|^$", EITHER)
def name_with_a_newline(site: Site) -> None:
    here(site, "new\nline.wav").write_bytes(site.good)


@accepted("smile-😀.wav", "")
def name_with_an_emoji(site: Site) -> None:
    here(site, "smile-😀.wav").write_bytes(site.good)


@accepted(f"{'n' * 251}.wav", "")
def name_of_255_bytes(site: Site) -> None:
    here(site, f"{'n' * 251}.wav").write_bytes(site.good)


@accepted("-rf.wav", "")
def name_like_an_option(site: Site) -> None:
    here(site, "-rf.wav").write_bytes(site.good)


@accepted("x.tar.wav", "")
def name_that_looks_like_an_archive(site: Site) -> None:
    here(site, "x.tar.wav").write_bytes(site.good)


@accepted("Word.wav", "")
def name_in_capitals(site: Site) -> None:
    here(site, "Word.wav").write_bytes(site.good)


@accepted("word.wav", "")
def name_that_differs_in_case_only(site: Site) -> None:
    here(site, "word.wav").write_bytes(site.good)


@accepted("./dot/./a.wav", "")
def path_with_dots(site: Site) -> None:
    here(site, "dot/a.wav").write_bytes(site.good)


@path(normalize("NFC", "décomposé.wav"), f"NFC|NFD|composed|normal|spelled|{MISSING}", EITHER)
def name_in_another_unicode_normalisation(site: Site) -> None:
    """The name of a file copied from a Mac to Linux."""
    here(site, normalize("NFD", "décomposé.wav")).write_bytes(site.good)


# --- files that no row refers to

STRAY = "not in the manifest|no row|not listed|no text|names it|lists"


@unlisted("stray.wav", STRAY)
def recording_without_a_row(site: Site) -> None:
    here(site, "stray.wav").write_bytes(site.good)


@unlisted("sub/stray.flac", STRAY)
def recording_without_a_row_in_a_folder(site: Site) -> None:
    here(site, "sub/stray.flac").write_bytes(site.good)


@unlisted("caf\udce9.wav", STRAY + "|UTF-8|name")
def name_that_is_not_unicode(site: Site) -> None:
    """From a system that used Latin-1; a manifest in UTF-8 cannot contain it."""
    here(site, "caf\udce9.wav").write_bytes(site.good)


@unlisted("stray-pipe.wav", f"pipe|fifo|{NOT_A_FILE}|{STRAY}")
def pipe_without_a_row(site: Site) -> None:
    os.mkfifo(here(site, "stray-pipe.wav"))
