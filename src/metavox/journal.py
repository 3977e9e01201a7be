"""Logs of JSON lines: a line is written whole, so a process that is killed leaves no part of one."""

import json
import threading
from pathlib import Path
from typing import Any

RUNS = Path(".metavox/runs.jsonl")  # of a project: what its flows did (flows/journal.py)
_LOCK = threading.Lock()


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line to a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK, path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def lines(path: Path) -> list[dict[str, Any]]:
    """All lines of a log, the oldest first; those that cannot be read are left out, and there is none without a file."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
