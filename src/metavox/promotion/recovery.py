"""After an interruption: undo what was begun and not committed."""

import json
from pathlib import Path

from metavox.files import content_digest, replace
from metavox.promotion import canary, versions
from metavox.promotion.versions import (
    CANARY,
    CANARY_RECORD,
    CHAMPION,
    DECISIONS,
    HISTORY,
    POINTERS,
    RECORD,
)


def recover(project: Path) -> bool:
    """Undo a promotion or a canary that was interrupted before its commit; returns whether there was one.

    The recordings that it decided about are undecided again. Nothing is deleted: a first champion without a commit is
    moved into `.metavox`.
    """
    restored = (POINTERS[0], POINTERS[2], RECORD, DECISIONS, HISTORY, CANARY_RECORD)
    loops_own = [path for path in restored if versions.git(project, "ls-files", str(path))]
    undone = _remove_new_canary(project, loops_own)
    if POINTERS[0] not in loops_own:
        if not (project / CHAMPION).is_dir():
            return undone
        aside = project / ".metavox" / f"{CHAMPION}-{content_digest(project / CHAMPION)[:12]}"
        aside.parent.mkdir(exist_ok=True)
        replace(project / CHAMPION, aside)
        (project / POINTERS[0]).unlink(missing_ok=True)
        for path in (DECISIONS, HISTORY):
            if path not in loops_own:
                (project / path).unlink(missing_ok=True)
        return True
    decisive = [path for path in loops_own if path not in (DECISIONS, HISTORY)]
    changed = versions.git(project, "diff", "--name-only", "HEAD", "--", *map(str, decisive))
    pointers = [str(path) for path in decisive if path in POINTERS and (project / path).is_file()]
    status = versions.dvc(project, "status", "--json", *pointers).strip().splitlines()
    if not changed and (not status or json.loads(status[-1]) == {}):
        return undone
    versions.restore(project, "HEAD", loops_own)
    return True


def _remove_new_canary(project: Path, committed: list[Path]) -> bool:
    """Remove a canary that was not committed; returns whether there was one."""
    if POINTERS[2] in committed or not (project / CANARY).exists():
        return False
    canary.discard(project)
    return True
