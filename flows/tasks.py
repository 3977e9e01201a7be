"""Run stages as Prefect tasks, for the pipeline's flow and for each stage's own flow."""

import logging
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.deployments import run_deployment

from flows.dvc_locks import forget_dead_holders
from flows.gates import check_gate, read_metrics, scalars
from flows.lock import only_writer
from flows.project import Stage
from flows.repro import Checkout, StageFailed, out_of_date, pull_results, push_results, reproduce
from metavox.errors import UserError

REPORT = "report.html"
WAIT_S = 30.0


def run_stages(
    project: Path, stages: list[Stage], wait_s: float, workers: bool = False, share: bool = False
) -> dict[str, str]:
    """Bring `stages` up to date in order, one task each, and stop at the first closed gate.

    Returns the outcome by stage. With `workers`, stages of other pools run on those pools' workers; with `share` (which
    `workers` implies), results are exchanged through the DVC remote. Raises Busy, StageFailed, GateClosed, UserError.
    """
    logger = get_run_logger()
    command = shlex.join(sys.orig_argv[1:]) or "a flow"
    with only_writer(project, command, wait_s, logger.warning) as lock:
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
                outcomes[stage.name] = _as_task(stage)(checkout, stage, workers, share or workers)
            check_gate(project, stage)
        _show(project, stages, outcomes)
    return outcomes


def check_commit(project: Path, commit: str | None) -> None:
    """Raise UserError unless the checkout is at `commit`, if one is given."""
    if commit is not None and (here := head(project)) != commit:
        raise UserError(
            f"{project}: the checkout is at {here[:12]}, but the run needs {commit[:12]}; check it out with git"
        )


def head(project: Path) -> str:
    """The checkout's commit; empty outside a git repository."""
    result = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=False
    )
    return result.stdout.strip()


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


def _run_stage(checkout: Checkout, stage: Stage, workers: bool, share: bool) -> str:
    logger = get_run_logger()
    if workers and stage.pool != "local-process":
        logger.info("%s: to a worker of pool %s", stage.name, stage.pool)
        _on_worker(checkout, stage)
    if share:
        pull_results(checkout, logger.info)
    outcome = reproduce(checkout, stage, logger.info, pull=share)
    if share and outcome == "ran":
        push_results(checkout, stage, logger.info)
    return outcome


def _on_worker(checkout: Checkout, stage: Stage) -> None:
    """Run the stage's own deployment on a worker at this commit, which pushes the result to the remote."""
    run = run_deployment(
        f"{stage.name}/{stage.name}",
        parameters={"share": True, "commit": head(checkout.project)},
        timeout=stage.timeout_s,
    )
    state: State[Any] | None = run.state  # type: ignore[union-attr]
    if state is None or not state.is_completed():
        raise StageFailed(
            f"{stage.name}: failed on pool {stage.pool}: {state.message if state else 'it has no state'}"
        )


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
                create_link_artifact(page.resolve().as_uri(), key="report", link_text=str(Path(out) / REPORT))


class _NoTraceback(logging.Filter):
    """Log expected errors as one line, without a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], UserError | StageFailed):
            record.exc_info = None
        return True


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_NoTraceback())
