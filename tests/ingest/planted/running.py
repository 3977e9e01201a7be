"""The real command in a process of its own: as an ordinary user, with little memory, never for ever."""

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
told = sys.argv.pop(1)
atexit.register(lambda: open(told, "w").write(open("/proc/self/status").read()))
from metavox.cli.main import main; main()
"""  # the system's own count of a child's memory begins with all of its parent's
LONGEST_S = 120  # a command that waits for a pipe would wait for ever
MEMORY = 8 << 30  # bytes of address space: torch alone maps three of them
PR_CAPBSET_DROP, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2


@dataclass(frozen=True)
class Ran:
    status: int
    said: str
    told: dict[str, Any]  # what --json holds
    peak_mb: float

    @property
    def refused(self) -> dict[str, str]:
        return {row["path"]: "; ".join(row["reasons"]) for row in self.told["refuse"]}

    @property
    def taken(self) -> dict[str, str]:
        return {row["path"]: "; ".join(row["notes"]) for row in self.told["take"]}

    @property
    def had(self) -> set[str]:
        return {row["path"] for row in self.told["have"]}

    @property
    def paths(self) -> list[str]:
        return [row["path"] for outcome in ("take", "have", "refuse") for row in self.told[outcome]]

    def explained(self, kind: str) -> str:
        return "\n".join(f"{fault['name']}: {fault['explanation']}" for fault in self.told[kind])


def metavox(*arguments: str | Path, cwd: Path, memory: int = MEMORY, before: tuple[str, ...] = ()) -> Ran:
    """Run it with its JSON beside `cwd`; root may not read what nobody may."""
    answer = cwd.parent / f"{cwd.name}.json"
    answer.unlink(missing_ok=True)
    memory_told = cwd.parent / f"{cwd.name}.memory"
    command = [*before, sys.executable, "-c", METAVOX, str(memory_told), *map(str, arguments)]
    if "add" in arguments:
        command += ["--json", str(answer)]
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
    timer = threading.Timer(LONGEST_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        said = process.stdout.read()
        process.wait()
    finally:
        timer.cancel()
        process.stdout.close()
    told = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    ended = memory_told.read_text() if memory_told.exists() else ""  # who is killed says nothing
    peak = re.search(r"VmHWM:\s+(\d+) kB", ended)
    return Ran(process.returncode, said, told, int(peak[1]) / 1024 if peak else 0.0)


def added(tree: Path, data: Path, *options: str) -> Ran:
    """The command in this process, for the many that need no other."""
    answer = tree.with_name(f"{tree.name}.json")
    ran = CliRunner().invoke(
        app, ["corpus", "add", str(tree), "--into", str(data), "--json", str(answer), *options]
    )
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.output
    told = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    return Ran(ran.exit_code, ran.output, told, 0.0)


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=120k none "$0" && cp -r "$1" "$0/data" && cd "$0" && find . -type f | sort | xargs md5sum
shift; "$@"; status=$?
find . -type f -not -path './.metavox/*' | sort | xargs md5sum; exit $status
"""


def on_a_small_disk(disk: Path, corpus: Path) -> tuple[str, ...]:
    """What to put before a command, so that `corpus` is copied to a disk of 120 kB and it runs there; or nothing.

    It says the digests of all files on the disk before and after the command.
    """
    unshare = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)), "sh", "-c")
    if shutil.which("unshare") is None or subprocess.run([*unshare, "mount -t tmpfs none /mnt"]).returncode:
        return ()
    disk.mkdir()
    return (*unshare, ON_A_SMALL_DISK, str(disk), str(corpus))


def _ordinary(memory: int) -> None:
    """In the child: no more than `memory`; and root may open no more than the mode of a file says."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything under `folder`: kind, mode, time, and the digest of its bytes."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in _under(folder):
        about = path.lstat()
        mode = about.st_mode
        content = (
            hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) and _readable(path) else ""
        )
        found[os.fsencode(path.relative_to(folder)).decode("latin-1")] = (mode, about.st_mtime_ns, content)
    return found


def _under(folder: Path) -> Iterator[Path]:
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(top) / name


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


@contextmanager
def web() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and who called it."""
    calls: list[str] = []

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            calls.append(self.request.recv(100).decode("latin-1"))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", calls
        server.shutdown()


def unlock(folder: Path) -> None:
    """So that it can be deleted."""
    for path in (folder, *_under(folder)):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def remove(folder: Path) -> None:
    unlock(folder)
    shutil.rmtree(folder)
