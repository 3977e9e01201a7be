"""A command as a process group of its own: its output line by line, its end certain, no orphan left."""

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
    """The command ran longer than it may, and was stopped."""


def run(
    command: Sequence[str],
    cwd: Path,
    say: Callable[[str], None],
    timeout_s: float | None = None,
    keep_open: Sequence[int] = (),
) -> tuple[int, list[str]]:
    """Run `command` and give each line it prints to `say` as it comes.

    Returns its exit status and its lines. `keep_open` are file descriptors that it inherits. However this
    ends (an error, Ctrl-C and SIGTERM included), nothing that the command started is left running.
    Raises OutOfTime after `timeout_s` seconds.
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
    reader = threading.Thread(target=_read, args=(process, lines, say), daemon=True)
    reader.start()
    try:
        status = process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise OutOfTime(f"stopped after {timeout_s:g} s, the most it may take") from None
    finally:
        _stop(process)
        reader.join(timeout=GRACE_S)
    return status, lines


def _environment() -> dict[str, str]:
    """This environment, with the commands of this Python's environment (`metavox`, `dvc`) found first."""
    disable_telemetry()
    here = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join((here, os.environ.get("PATH", ""))),
        "PYTHONUNBUFFERED": "1",
    }


def _read(process: subprocess.Popen[str], lines: list[str], say: Callable[[str], None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        text = line.rstrip()
        if text:
            lines.append(text)
            say(text)


def _stop(process: subprocess.Popen[str]) -> None:
    """End the whole group: politely first, so that DVC gives its locks back; then for certain."""
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
