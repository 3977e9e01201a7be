"""Run a command in a process group of its own, pass on its output line by line, and leave no process behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from metavox.telemetry import disable_telemetry

GRACE_S, POLL_S = 10.0, 0.1


class OutOfTime(Exception):
    """The command exceeded its time limit and was stopped."""


class Stopped(Exception):
    """The command was stopped on request."""


def run(
    command: Sequence[str],
    cwd: Path,
    log: Callable[[str], None],
    timeout_s: float | None = None,
    keep_open: Sequence[int] = (),
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, list[str]]:
    """Run `command` and pass each line of its output to `log` as it appears.

    Returns the exit status and the lines. The command inherits the file descriptors `keep_open`, and gets the variables
    `environment` besides this process's own. However this ends, including by an error, Ctrl-C or SIGTERM, no process that
    the command started is left running. Raises OutOfTime after `timeout_s` seconds, and Stopped soon after another thread
    has set `stop`.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**_environment(), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=tuple(keep_open),
    )
    lines: list[str] = []
    reader = threading.Thread(target=_read, args=(process, lines, log), daemon=True)
    reader.start()
    try:
        status = _wait(process, timeout_s, stop)
    except subprocess.TimeoutExpired:
        raise OutOfTime(f"stopped at its time limit of {timeout_s:g} s") from None
    finally:
        _stop(process)
        reader.join(timeout=GRACE_S)
    return status, lines


def _wait(process: subprocess.Popen[str], timeout_s: float | None, stop: threading.Event | None) -> int:
    if stop is None:  # interrupts reach this thread
        return process.wait(timeout=timeout_s)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        if stop.is_set():
            raise Stopped("stopped on request")
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=POLL_S)
        if deadline is not None and time.monotonic() >= deadline:
            raise subprocess.TimeoutExpired(process.args, timeout_s or 0)


def _environment() -> dict[str, str]:
    """The environment variables, with the folder of this Python's commands (`metavox`, `dvc`) first in PATH."""
    disable_telemetry()
    here, path = str(Path(sys.executable).parent), os.environ.get("PATH", "")
    return {
        **os.environ,
        "PATH": path if here in path.split(os.pathsep) else os.pathsep.join((here, path)),
        "PYTHONUNBUFFERED": "1",
    }


def _read(process: subprocess.Popen[str], lines: list[str], log: Callable[[str], None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        text = line.rstrip()
        if text:
            lines.append(text)
            log(text)


def _stop(process: subprocess.Popen[str]) -> None:
    """End the process group: first by signals that let DVC release its locks, then by SIGKILL."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if process.poll() is not None:
                break
            _signal_group(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=GRACE_S)
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
