"""Run a command in a process group of its own, pass on its output line by line, and leave no process behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from metavox.telemetry import disable_telemetry

GRACE_S = 10.0


class OutOfTime(Exception):
    """The command exceeded its time limit and was stopped."""


def run(
    command: Sequence[str],
    cwd: Path,
    log: Callable[[str], None],
    timeout_s: float | None = None,
    keep_open: Sequence[int] = (),
) -> tuple[int, list[str]]:
    """Run `command` and pass each line of its output to `log` as it appears.

    Returns the exit status and the lines. The command inherits the file descriptors `keep_open`. However this ends,
    including by an error, Ctrl-C or SIGTERM, no process that the command started is left running. Raises OutOfTime
    after `timeout_s` seconds.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=_environment(),
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
        status = process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise OutOfTime(f"stopped at its time limit of {timeout_s:g} s") from None
    finally:
        _stop(process)
        reader.join(timeout=GRACE_S)
    return status, lines


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
