"""Run stages as Prefect tasks, for the pipeline's flow and for each stage's own flow."""

import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State, TaskRun

from flows import journal
from flows.checkpoints import shared_checkpoints
from flows.dvc_locks import forget_dead_holders
from flows.gates import check_gate, read_metrics, scalars
from flows.git import head
from flows.inputs import check_unchanged, snapshot
from flows.integrity import remove_damaged
from flows.lock import only_writer
from flows.process import Stopped
from flows.project import LOCAL, Stage
from flows.repro import Checkout, StageFailed, fetch_results, out_of_date, push_results, reproduce
from flows.workers import run_on_worker
from metavox.errors import UserError

REPORT = "report.html"
WAIT_S = 30.0
WORKER_WAIT_S = 120.0


@dataclass(frozen=True)
class Workers:
    """Stages of other pools run on those pools' workers, which may take `wait_s` seconds to come online."""

    wait_s: float = WORKER_WAIT_S


def run_name(what: str) -> Callable[[], str]:
    """The name of a flow run on Prefect's pages: what it does, and when it started."""
    return lambda: f"{what} {datetime.now():%Y-%m-%d %H:%M}"


def run_stages(
    project: Path, stages: list[Stage], wait_s: float, workers: Workers | None = None, share: bool = False
) -> dict[str, str]:
    """Bring `stages` up to date in order, one task each, and stop at the first closed gate.

    Returns the outcome by stage. With `share`, which `workers` imply, results are exchanged through the DVC remote.
    Raises Busy, StageFailed, GateClosed, UserError.
    """
    logger = get_run_logger()
    command = shlex.join(sys.orig_argv[1:]) or "a flow"
    with (
        journal.flow_run(project, f"stages to {stages[-1].name}"),
        only_writer(project, command, wait_s, logger.warning) as lock,
    ):
        return run_locked(project, stages, lock, workers, share)


def run_locked(
    project: Path, stages: list[Stage], lock: int, workers: Workers | None = None, share: bool = False
) -> dict[str, str]:
    """As `run_stages`, for a flow that holds the lock of the checkout already."""
    logger = get_run_logger()
    checkout = Checkout(project, lock)
    for line in forget_dead_holders(project):
        logger.warning(line)
    stale = out_of_date(checkout, logger.info)
    outcomes: dict[str, str] = {}
    for stage in stages:
        inputs_changed = any(outcomes.get(need) in ("ran", "from cache") for need in stage.needs)
        if stage.name not in stale and not inputs_changed:
            logger.info("%s: up to date, skipped", stage.name)
            outcomes[stage.name] = "up to date"
        else:
            outcomes[stage.name] = _as_task(stage)(checkout, stage, workers, share or workers is not None)
        check_gate(project, stage)
    _show(project, stages, outcomes)
    return outcomes


def _as_task(stage: Stage) -> Any:
    as_task: Any = task(
        name=stage.name,
        task_run_name=stage.name,
        retries=stage.retries,
        retry_delay_seconds=stage.retry_delay_s,
        retry_condition_fn=_worth_a_retry,
        tags=[stage.pool],
        persist_result=False,
    )
    return as_task(_run_stage)


def _run_stage(checkout: Checkout, stage: Stage, workers: Workers | None, share: bool) -> str:
    began, outcome = time.monotonic(), "failed"
    try:
        outcome = _bring_up_to_date(checkout, stage, workers, share)
    finally:
        pool = stage.pool if workers else LOCAL
        seconds = time.monotonic() - began
        journal.record_stage(checkout.project, stage, outcome, seconds, pool, head(checkout.project))
    return outcome


def _bring_up_to_date(checkout: Checkout, stage: Stage, workers: Workers | None, share: bool) -> str:
    logger = get_run_logger()
    if workers and stage.pool != LOCAL:
        push_results(checkout)  # of earlier stages, which the worker takes from the remote
        logger.info("%s: to a worker of pool %s", stage.name, stage.pool)
        run_on_worker(checkout.project, stage, workers.wait_s)
    if share:
        fetch_results(checkout)
    with (
        shared_checkpoints(checkout.project, head(checkout.project), stage.name, logger.warning)
        if share
        else nullcontext()
    ):
        outcome = _reproduce(checkout, stage, share)
    if share:
        # Whatever the outcome: an attempt whose upload failed finds the stage up to date.
        push_results(checkout)
    return outcome


def _reproduce(checkout: Checkout, stage: Stage, share: bool) -> str:
    logger = get_run_logger()
    before, began = snapshot(checkout.project, stage), time.time()
    outcome = reproduce(checkout, stage, logger.info, pull=share)
    if outcome == "ran":
        check_unchanged(checkout.project, stage, before, began)
    if outcome != "from cache" or not (damaged := remove_damaged(checkout.project, stage)):
        return outcome
    for line in damaged:
        logger.warning(line)
    if share:
        fetch_results(checkout)
    return reproduce(checkout, stage, logger.info, pull=share)


def _worth_a_retry(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    return not isinstance(state.data, UserError)


def _show(project: Path, stages: Iterable[Stage], outcomes: dict[str, str]) -> None:
    """Publish the metrics and the report as artifacts on Prefect's pages."""
    rows = [
        {"stage": stage.name, "state": outcomes[stage.name], "metric": name, "value": value}
        for stage in stages
        for name, value in (scalars(read_metrics(project, stage)) or {"": ""}).items()
    ]
    create_table_artifact(rows, key="metrics", description="What each stage measured")
    for stage in stages:
        for out in stage.outs:
            page = project / out / REPORT
            if page.is_file():
                create_markdown_artifact(
                    f"`{page.resolve()}`\n\nOpen it in a browser on that machine.",
                    key=f"{stage.name}-report",
                    description=f"The page that {stage.name} wrote",
                )


class _NoTraceback(logging.Filter):
    """Log expected errors as one line, without a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], UserError | StageFailed | Stopped):
            record.exc_info = None
        return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_NoTraceback())
