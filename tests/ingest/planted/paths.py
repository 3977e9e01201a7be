"""Paths that lead nowhere, elsewhere, or to what is no file; each function makes what is there.

`Fault.file` is the path as the manifest has it; {outside} stands for a folder beside the tree.
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

PLACES: list[Fault] = []  # the manifest has a row for each
UNLISTED: list[Fault] = []  # files that no row names
OUT = "outside|leads out|leaves|allow-outside"
GONE = "no such"
NO_FILE = "not a (regular |plain )?file|no (regular |plain )?file|no such recording"


@dataclass(frozen=True)
class Ground:
    tree: Path
    outside: Path  # holds secret.wav, a good recording
    good: bytes  # another good recording for every fault
    web: str  # http://127.0.0.1:PORT, which nobody may call


def place(file: str, told: str, outcome: str = REFUSE) -> Callable[..., Any]:
    return register(PLACES, file, outcome, told)


def unlisted(file: str, told: str, outcome: str = REFUSE) -> Callable[..., Any]:
    return register(UNLISTED, file, outcome, told)


taken = partial(place, outcome=TAKE)


def here(ground: Ground, name: str) -> Path:
    path = ground.tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


# --- nowhere


@place("missing.wav", GONE)
def file_that_is_not_there(ground: Ground) -> None:
    pass


@place("no/such/folder/a.wav", GONE)
def folder_that_is_not_there(ground: Ground) -> None:
    pass


@place("", "path|no such|folder|directory")
def path_empty(ground: Ground) -> None:
    pass


@place("folder.wav", "folder|directory|" + NO_FILE)
def folder_named_wav(ground: Ground) -> None:
    here(ground, "folder.wav").mkdir()


@place(f"{'long' * 80}.wav", f"{GONE}|too long")
def name_longer_than_any_file_may_have(ground: Ground) -> None:
    pass


@place("deep/" * 900 + "a.wav", f"{GONE}|too long")
def path_longer_than_any_path_may_be(ground: Ground) -> None:
    pass


@place("dangling.wav", f"{GONE}|dangling|leads to nothing|link")
def link_to_nothing(ground: Ground) -> None:
    here(ground, "dangling.wav").symlink_to("nothing.wav")


@place("loop-a.wav", f"loop|circle|levels|link|{GONE}")
def links_to_each_other(ground: Ground) -> None:
    here(ground, "loop-a.wav").symlink_to("loop-b.wav")
    here(ground, "loop-b.wav").symlink_to("loop-a.wav")


@place("round/round/round/a.wav", f"{GONE}|loop|link|listed")
def folder_that_links_to_itself(ground: Ground) -> None:
    """Who walks the tree through links never comes back."""
    here(ground, "round").mkdir()
    (ground.tree / "round" / "round").symlink_to(".")


# --- elsewhere


@place("../outside/secret.wav", OUT)
def path_that_climbs_out(ground: Ground) -> None:
    pass


@place("a/../../outside/secret.wav", OUT)
def path_that_climbs_out_of_a_folder(ground: Ground) -> None:
    here(ground, "a/x").parent.mkdir(exist_ok=True)


@place("{outside}/secret.wav", OUT)
def absolute_path(ground: Ground) -> None:
    pass


@place("/etc/passwd", OUT + "|not audio")
def absolute_path_to_what_is_no_recording(ground: Ground) -> None:
    pass


@place("link-out.wav", OUT)
def link_out_of_the_tree(ground: Ground) -> None:
    here(ground, "link-out.wav").symlink_to(ground.outside / "secret.wav")


@place("folder-out/secret.wav", OUT)
def folder_link_out_of_the_tree(ground: Ground) -> None:
    here(ground, "folder-out").symlink_to(ground.outside)


@place("{web}/a.wav", f"{GONE}|URL|address|fetch|download")
def address_in_the_web(ground: Ground) -> None:
    pass


@place("file://{outside}/secret.wav", f"{GONE}|URL|address|{OUT}")
def address_of_a_file(ground: Ground) -> None:
    pass


@place("list.m3u8", "not audio|playlist")
def playlist_of_an_address(ground: Ground) -> None:
    lines = ("#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:9", "#EXTINF:9.0,", f"{ground.web}/a.ts")
    here(ground, "list.m3u8").write_text("\n".join((*lines, "#EXT-X-ENDLIST", "")))


@place("list.mp3", "not audio|playlist")
def playlist_of_a_file_outside(ground: Ground) -> None:
    here(ground, "list.mp3").write_text(f"ffconcat version 1.0\nfile '{ground.outside}/secret.wav'\n")


# --- no file


@place("pipe.wav", f"pipe|fifo|{NO_FILE}")
def pipe_that_nobody_writes_to(ground: Ground) -> None:
    """Who opens it waits for ever."""
    os.mkfifo(here(ground, "pipe.wav"))


@place("socket.wav", f"socket|{NO_FILE}")
def socket_named_wav(ground: Ground) -> None:
    before = Path.cwd()
    os.chdir(ground.tree)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.wav")
    finally:
        os.chdir(before)


@place("zero.wav", f"device|{NO_FILE}")
def device_that_never_ends(ground: Ground) -> None:
    """Like /dev/zero. Raises PermissionError for who may make none."""
    os.mknod(here(ground, "zero.wav"), 0o666 | stat.S_IFCHR, os.makedev(1, 5))


@place("link-zero.wav", f"device|{NO_FILE}|{OUT}")
def link_to_a_device_that_never_ends(ground: Ground) -> None:
    here(ground, "link-zero.wav").symlink_to("/dev/zero")


@place("locked.wav", "permission|may not|not readable|cannot be read")
def file_that_may_not_be_read(ground: Ground) -> None:
    here(ground, "locked.wav").write_bytes(ground.good)
    (ground.tree / "locked.wav").chmod(0)


@place("closed/a.wav", f"permission|may not|cannot be read|{GONE}")
def folder_that_may_not_be_entered(ground: Ground) -> None:
    here(ground, "closed/a.wav").write_bytes(ground.good)
    (ground.tree / "closed").chmod(0)


# --- names that are only unusual


@taken("with space  twice.wav", "")
def name_with_spaces(ground: Ground) -> None:
    here(ground, "with space  twice.wav").write_bytes(ground.good)


@place("new\nline.wav", "line break|newline|^$", EITHER)
def name_with_a_newline(ground: Ground) -> None:
    here(ground, "new\nline.wav").write_bytes(ground.good)


@taken("smile-😀.wav", "")
def name_with_an_emoji(ground: Ground) -> None:
    here(ground, "smile-😀.wav").write_bytes(ground.good)


@taken(f"{'n' * 251}.wav", "")
def name_of_255_bytes(ground: Ground) -> None:
    here(ground, f"{'n' * 251}.wav").write_bytes(ground.good)


@taken("-rf.wav", "")
def name_like_an_option(ground: Ground) -> None:
    here(ground, "-rf.wav").write_bytes(ground.good)


@taken("x.tar.wav", "")
def name_that_speaks_of_an_archive(ground: Ground) -> None:
    here(ground, "x.tar.wav").write_bytes(ground.good)


@taken("Word.wav", "")
def name_in_capitals(ground: Ground) -> None:
    here(ground, "Word.wav").write_bytes(ground.good)


@taken("word.wav", "")
def name_that_differs_in_case_only(ground: Ground) -> None:
    here(ground, "word.wav").write_bytes(ground.good)


@taken("./dot/./a.wav", "")
def path_with_dots(ground: Ground) -> None:
    here(ground, "dot/a.wav").write_bytes(ground.good)


@place(normalize("NFC", "décomposé.wav"), f"NFC|NFD|composed|normal|spelled|{GONE}", EITHER)
def name_written_in_another_form_of_unicode(ground: Ground) -> None:
    """What a file of a Mac is called after it was copied to Linux."""
    here(ground, normalize("NFD", "décomposé.wav")).write_bytes(ground.good)


# --- what no row names

STRAY = "not in the manifest|no row|not listed|no text|names it|lists"


@unlisted("stray.wav", STRAY)
def recording_without_a_row(ground: Ground) -> None:
    here(ground, "stray.wav").write_bytes(ground.good)


@unlisted("sub/stray.flac", STRAY)
def recording_without_a_row_in_a_folder(ground: Ground) -> None:
    here(ground, "sub/stray.flac").write_bytes(ground.good)


@unlisted("caf\udce9.wav", STRAY + "|UTF-8|name")
def name_that_is_no_unicode(ground: Ground) -> None:
    """Made on a machine that wrote Latin-1; no manifest in UTF-8 can name it."""
    here(ground, "caf\udce9.wav").write_bytes(ground.good)


@unlisted("stray-pipe.wav", f"pipe|fifo|{NO_FILE}|{STRAY}")
def pipe_without_a_row(ground: Ground) -> None:
    os.mkfifo(here(ground, "stray-pipe.wav"))
