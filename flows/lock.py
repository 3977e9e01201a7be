"""A lock that allows one writer per checkout: a second one waits for a limited time and logs whom it waits for."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from metavox.errors import UserError

LOCK = Path(".metavox") / "pipeline.lock"
POLL_S = 0.1


class Busy(UserError):
    """Another pipeline held the lock for the whole time that this one was willing to wait."""


@contextmanager
def only_writer(
    project: Path, command: str, wait_s: float, log: Callable[[str], None], lock: Path = LOCK
) -> Iterator[int]:
    """Hold the project's file `lock`, by default `.metavox/pipeline.lock`; yields its file descriptor.

    The kernel releases the lock when the last process that has it open ends, for whatever reason. Stages inherit the
    descriptor, so the checkout of a killed flow stays locked while a stage is still writing. Raises Busy after `wait_s`
    seconds.
    """
    path = project / lock
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, project, lock, wait_s, log)
        _write(
            descriptor,
            {"pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}", "command": command},
        )
        try:
            yield descriptor
        finally:
            _write(descriptor, None)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, project: Path, lock: Path, wait_s: float, log: Callable[[str], None]) -> None:
    deadline = time.monotonic() + wait_s
    logged = False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy(
                    f"{lock} is held by {_holder(project / lock)}; gave up after {wait_s:g} s; wait for it, stop it, "
                    "or allow more time (--wait SECONDS)"
                ) from None
        if not logged:
            log(f"waiting up to {wait_s:g} s for {_holder(project / lock)}")
            logged = True
        time.sleep(POLL_S)


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {holder['pid']} ({holder['command']}, since {holder['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
    return who if _alive(holder["pid"]) else f"a stage of {who}, which has itself ended"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(descriptor: int, holder: dict[str, object] | None) -> None:
    os.ftruncate(descriptor, 0)
    if holder is not None:
        os.pwrite(descriptor, (json.dumps(holder) + "\n").encode(), 0)
