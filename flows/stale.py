"""What a killed DVC left behind. DVC itself forgives a holder that is gone, but takes a zombie, or another
process that was given the same number, for one that still works: both are common in containers.
"""

import json
from pathlib import Path
from typing import Any

import psutil

from metavox.files import write_json

RWLOCK = Path(".dvc") / "tmp" / "rwlock"


def forget_dead_holders(project: Path) -> list[str]:
    """Drop from DVC's lock file the holders that are no running dvc; returns one line about each."""
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
        f"process {pid} ({command}) is no more; its DVC lock was dropped" for pid, command in dead.items()
    ]


def _is_running_dvc(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any("dvc" in word for word in process.cmdline())
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
