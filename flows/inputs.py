"""Inputs that change while a stage runs: DVC would record the new ones as what the result was made from."""

from contextlib import suppress
from pathlib import Path

import yaml

from flows.project import Stage
from flows.repro import StageFailed
from metavox.files import written_aside
from metavox.promotion.dvc_cache import run_cache

LOCK = "dvc.lock"
Snapshot = dict[str, tuple[int, int, int]]


def snapshot(project: Path, stage: Stage) -> Snapshot:
    """The identity, size and time of each file that the stage depends on."""
    found: Snapshot = {}
    for dep in stage.deps:
        path = project / dep
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                status = file.stat()
                found[str(file.relative_to(project))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def check_unchanged(project: Path, stage: Stage, before: Snapshot, since: float) -> None:
    """Raise StageFailed if an input has changed since `before`, and forget the result that was made meanwhile.

    `since` is when the stage began, in seconds since 1970.
    """
    now = snapshot(project, stage)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if not changed:
        return
    _forget(project, stage, since)
    raise StageFailed(
        f"{stage.name}: {changed[0]} changed while the stage ran, so its result belongs to neither version; it was "
        "discarded, and the stage runs again"
    )


def _forget(project: Path, stage: Stage, since: float) -> None:
    """Remove the stage from dvc.lock and from the run-cache."""
    path = project / LOCK
    lock = yaml.safe_load(path.read_text(encoding="utf-8"))
    entry = lock["stages"].pop(stage.name, None)
    with written_aside(path) as aside:
        aside.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    if entry is None:
        return
    for run in run_cache(project).glob("*/*/*"):
        if (
            run.stat().st_mtime >= since
            and yaml.safe_load(run.read_text(encoding="utf-8")).get("cmd") == entry["cmd"]
        ):
            run.unlink()
            with suppress(OSError):
                run.parent.rmdir()  # DVC fails on an empty folder
