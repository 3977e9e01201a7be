"""`.metavox/runs.jsonl`: one JSON line for each stage and decision, under the ID of the flow run that made it.

The same ID is on Prefect's pages, in every line of its log, and in the records of promoted models; a line about a stage
names the digest of each output, so a bundle or a model leads to its run.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from prefect.context import get_run_context
from prefect.exceptions import MissingContextError

from flows.project import Stage
from metavox.journal import RUNS, append


def run_id() -> str:
    """The ID of the present flow run; empty outside one."""
    try:
        context: Any = get_run_context()
    except MissingContextError:
        return ""
    flow_run = getattr(context, "flow_run", None)
    return str(flow_run.id if flow_run is not None else context.task_run.flow_run_id)


@contextmanager
def flow_run(project: Path, name: str) -> Iterator[None]:
    """Write a line when the block ends, with its duration and the error that ended it."""
    began, error = time.monotonic(), ""
    try:
        yield
    except BaseException as raised:
        error = " ".join(str(raised).split()) or type(raised).__name__
        raise
    finally:
        seconds = round(time.monotonic() - began, 1)
        record(
            project,
            "flow",
            flow=name,
            outcome="failed" if error else "completed",
            seconds=seconds,
            error=error,
        )


def record(project: Path, event: str, **values: Any) -> None:
    """Append a line to the project's journal."""
    line = {"time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "run": run_id(), "event": event, **values}
    append(project / RUNS, line)


def record_stage(project: Path, stage: Stage, outcome: str, seconds: float, pool: str, commit: str) -> None:
    """A line about a stage that ended, with the digests of its outputs."""
    record(
        project,
        "stage",
        stage=stage.name,
        outcome=outcome,
        seconds=round(seconds, 1),
        pool=pool,
        commit=commit,
        outs=_digests(project, stage.name) if outcome != "failed" else {},
    )


def _digests(project: Path, stage: str) -> dict[str, str]:
    path = project / "dvc.lock"
    if not path.is_file():
        return {}
    locked = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages", {}).get(stage, {})
    return {out["path"]: out["md5"] for out in locked.get("outs", ())}
