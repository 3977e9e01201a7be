"""Remove stale entries from DVC's lock file after a DVC process was killed.

DVC itself ignores a holder that no longer exists, but it mistakes a zombie, or another process that got the same ID, for
a running one. Both are common in containers.
"""

import json
from pathlib import Path
from typing import Any

import psutil

from metavox.files import write_json

RWLOCK = Path(".dvc") / "tmp" / "rwlock"


def forget_dead_holders(project: Path) -> list[str]:
    """Remove holders that are not a running DVC process from DVC's lock file; return one line about each."""
    path = project / RWLOCK
    try:
        held: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    dead: dict[int, str] = {}

    def is_dead(holder: dict[str, Any]) -> bool:
        if not _is_running_dvc(int(holder["pid"])):
            dead[int(holder["pid"])] = str(holder["cmd"]).rpartition("/")[2]
        return int(holder["pid"]) in dead

    write = {path: holder for path, holder in held.get("write", {}).items() if not is_dead(holder)}
    read = {
        path: alive
        for path, holders in held.get("read", {}).items()
        if (alive := [holder for holder in holders if not is_dead(holder)])
    }
    if dead:
        write_json(path, {"write": write, "read": read})
    return [
        f"process {pid} ({command}) no longer runs; its DVC lock was removed" for pid, command in dead.items()
    ]


def _is_running_dvc(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any("dvc" in word for word in process.cmdline())
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
