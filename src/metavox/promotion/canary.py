"""A canary: a better challenger that answers a share of the requests until the next batch of recordings confirms it."""

import json
import shutil
from pathlib import Path
from typing import Any

from metavox.errors import UserError
from metavox.files import write_json, written_aside
from metavox.promotion import versions
from metavox.promotion.versions import CANARY, CANARY_RECORD, CHAMPION, FIELD, POINTERS


def place(project: Path, challenger: Path, record: dict[str, Any], share: float) -> None:
    """Let a challenger answer `share` of the requests, and commit it. `metavox serve --follow` serves it."""
    write_json(project / CANARY_RECORD, {"share": share, "record": record})
    with written_aside(project / CANARY) as aside:
        shutil.copytree(challenger, aside)
    versions.dvc(project, "add", "--quiet", str(CANARY), str(FIELD))
    versions.commit(project, f"canary: {record['why']}")


def record_of(project: Path) -> dict[str, Any] | None:
    """How the present canary came to be; None without one."""
    path = project / CANARY_RECORD
    if not (path.is_file() and (project / CANARY).is_dir()):
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["record"]
    return found


def promote(project: Path, decided: dict[str, Any], why: str) -> versions.Version:
    """Make the canary the champion. Raises UserError if there is none."""
    record = record_of(project)
    if record is None:
        raise UserError(
            f"{project}: there is no canary; expected one in {CANARY}, as a policy with a canary places it"
        )
    with written_aside(project / CHAMPION) as aside:
        shutil.copytree(project / CANARY, aside)
    discard(project)
    return versions.promote(
        project, {**record, "version": versions.next_name(project), "decided": decided, "why": why}
    )


def discard(project: Path) -> None:
    """Remove the canary from the folder; the next commit records it."""
    shutil.rmtree(project / CANARY, ignore_errors=True)
    for path in (POINTERS[2], CANARY_RECORD):
        (project / path).unlink(missing_ok=True)
