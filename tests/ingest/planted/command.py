"""Runs the real command in its own process: as an ordinary user, with limited memory and time."""

import ctypes
import hashlib
import json
import os
import re
import resource
import shutil
import socketserver
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from metavox.cli.main import app

METAVOX = """
import atexit, sys
status_file = sys.argv.pop(1)
atexit.register(lambda: open(status_file, "w").write(open("/proc/self/status").read()))
from metavox.cli.main import main; main()
"""  # RUSAGE_CHILDREN would include the memory of the parent before exec
TIMEOUT_S = 120  # a command that opened a pipe would block forever
MEMORY = 8 << 30  # bytes of address space, of which torch alone maps 3 GiB
PR_CAPBSET_DROP, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2


@dataclass(frozen=True)
class CommandResult:
    status: int
    output: str
    report: dict[str, Any]  # what --json holds
    peak_mb: float

    @property
    def refused(self) -> dict[str, str]:
        return {row["path"]: "; ".join(row["reasons"]) for row in self.report["refuse"]}

    @property
    def accepted(self) -> dict[str, str]:
        return {row["path"]: "; ".join(row["notes"]) for row in self.report["take"]}

    @property
    def known(self) -> set[str]:
        return {row["path"] for row in self.report["have"]}

    @property
    def paths(self) -> list[str]:
        return [row["path"] for outcome in ("take", "have", "refuse") for row in self.report[outcome]]

    def explained(self, kind: str) -> str:
        return "\n".join(f"{fault['name']}: {fault['explanation']}" for fault in self.report[kind])


def metavox(
    *arguments: str | Path, cwd: Path, memory: int = MEMORY, before: tuple[str, ...] = ()
) -> CommandResult:
    """Run the command with its JSON beside `cwd`; root loses the right to read files without read permission."""
    report_path = cwd.parent / f"{cwd.name}.json"
    report_path.unlink(missing_ok=True)
    memory_path = cwd.parent / f"{cwd.name}.memory"
    command = [*before, sys.executable, "-c", METAVOX, str(memory_path), *map(str, arguments)]
    if "add" in arguments:
        command += ["--json", str(report_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: _ordinary(memory),
    )
    timer = threading.Timer(TIMEOUT_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        output = process.stdout.read()
        process.wait()
    finally:
        timer.cancel()
        process.stdout.close()
    report = json.loads(report_path.read_text(encoding="utf-8")) if report_path.exists() else {}
    status = memory_path.read_text() if memory_path.exists() else ""  # a killed process writes none
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return CommandResult(process.returncode, output, report, int(peak[1]) / 1024 if peak else 0.0)


def added(tree: Path, data: Path, *options: str) -> CommandResult:
    """Run `corpus add` in this process, which is faster."""
    report_path = tree.with_name(f"{tree.name}.json")
    result = CliRunner().invoke(
        app, ["corpus", "add", str(tree), "--into", str(data), "--json", str(report_path), *options]
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    report = json.loads(report_path.read_text(encoding="utf-8")) if report_path.exists() else {}
    return CommandResult(result.exit_code, result.output, report, 0.0)


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=120k none "$0" && cp -r "$1" "$0/data" && cd "$0" && find . -type f | sort | xargs md5sum
shift; "$@"; status=$?
find . -type f -not -path './.metavox/*' | sort | xargs md5sum; exit $status
"""


def on_a_small_disk(disk: Path, corpus: Path) -> tuple[str, ...]:
    """The prefix that runs a command on a disk of 120 kB with a copy of `corpus`; empty if that is not possible.

    It prints the digests of all files on the disk before and after the command.
    """
    unshare = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)), "sh", "-c")
    if shutil.which("unshare") is None or subprocess.run([*unshare, "mount -t tmpfs none /mnt"]).returncode:
        return ()
    disk.mkdir()
    return (*unshare, ON_A_SMALL_DISK, str(disk), str(corpus))


def _ordinary(memory: int) -> None:
    """In the child: limit the memory, and make root subject to file permissions."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """(mode, modification time, digest of the bytes) of everything under `folder`, by path."""
    entries: dict[str, tuple[Any, ...]] = {}
    for path in _under(folder):
        status = path.lstat()
        mode = status.st_mode
        content = (
            hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) and _readable(path) else ""
        )
        entries[os.fsencode(path.relative_to(folder)).decode("latin-1")] = (mode, status.st_mtime_ns, content)
    return entries


def _under(folder: Path) -> Iterator[Path]:
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(top) / name


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


@contextmanager
def web() -> Iterator[tuple[str, list[str]]]:
    """A URL on this machine, and the requests that it received."""
    requests: list[str] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            requests.append(self.request.recv(100).decode("latin-1"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()


def unlock(folder: Path) -> None:
    """Restore permissions, so that the folder can be deleted."""
    for path in (folder, *_under(folder)):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def remove(folder: Path) -> None:
    unlock(folder)
    shutil.rmtree(folder)
