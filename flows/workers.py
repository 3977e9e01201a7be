"""Run a stage on a worker of another pool: the checks before it, the wait for it, and the worker's own checkout."""

import time
from pathlib import Path
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, WorkPoolStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Crashed

from flows.git import IGNORED, LOCK, changed_files, committed, git, head
from flows.project import Stage
from flows.repro import StageFailed
from metavox.errors import UserError

POLL_S = 5.0


def run_on_worker(project: Path, stage: Stage, worker_wait_s: float) -> None:
    """Run the stage's own deployment on a worker at this commit, which pushes the result to the remote.

    Raises UserError if the checkout has changes that the worker would not have. Raises StageFailed if no worker of the
    pool is online for `worker_wait_s` seconds, before or during the run, or if the run fails or exceeds its time limit.
    """
    commit = committed(project)
    with get_client(sync_client=True) as client:
        _wait_for_worker(client, stage, worker_wait_s)
        started = run_deployment(
            f"{stage.name}/{stage.name}",
            parameters={"share": True, "commit": commit},
            flow_run_name=f"{stage.name} at {commit[:8]}",
            timeout=0,
        )
        assert isinstance(started, FlowRun)
        try:
            _check(stage, _final_state(client, started.id, stage, worker_wait_s))
        except BaseException:
            _cancel(client, started.id)
            raise


def check_out(project: Path, commit: str | None) -> None:
    """Bring a worker's checkout to `commit`, fetched if it is not here; None accepts any commit.

    What DVC changed in an earlier run is discarded. Raises UserError for other changes, and if there is no such
    commit.
    """
    if commit is None:
        return
    changed = changed_files(project)
    if changed and head(project) != commit:
        raise UserError(
            f"{project}: {changed[0]} has changes, so commit {commit[:8]} cannot be checked out; commit or discard them"
        )
    if head(project) == commit:
        return
    git(project, "checkout", "--", f":(glob)**/{IGNORED}")
    if git(project, "checkout", "--", LOCK).returncode:
        (project / LOCK).unlink(missing_ok=True)  # not part of this commit, but perhaps of the next
    if git(project, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        git(project, "fetch", "--quiet", "--all")
    done = git(project, "checkout", "--quiet", "--detach", commit)
    if done.returncode:
        raise UserError(
            f"{project}: at {head(project)[:8]}, but the run needs commit {commit[:8]}, which cannot be checked out "
            f"({' '.join(done.stderr.split())}); push it to the repository that this clone fetches from"
        )


def _wait_for_worker(client: SyncPrefectClient, stage: Stage, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    told = False
    while not _online(client, stage.pool):
        if time.monotonic() >= deadline:
            raise StageFailed(_no_worker(stage))
        if not told:
            get_run_logger().warning(
                "%s: waiting up to %g s for a worker of pool %s", stage.name, wait_s, stage.pool
            )
            told = True
        time.sleep(min(POLL_S, 1.0))


def _online(client: SyncPrefectClient, pool: str) -> bool:
    try:
        return client.read_work_pool(pool).status == WorkPoolStatus.READY
    except ObjectNotFound:
        raise UserError(f"pool {pool}: the server has no such work pool; run `make deploy`") from None


def _no_worker(stage: Stage) -> str:
    return (
        f"{stage.name}: no worker of pool {stage.pool} is online; start one with `make worker POOL={stage.pool}` on the "
        "machine that should do the work"
    )


def _final_state(client: SyncPrefectClient, run: UUID, stage: Stage, wait_s: float) -> State | None:
    """The state in which the run ended. A worker that dies does not report it; Prefect then marks the run as crashed
    once its heartbeats stop, and here no run outlives the last worker of its pool."""
    deadline, last_online = time.monotonic() + stage.timeout_s, time.monotonic()
    while True:
        state = client.read_flow_run(run).state
        if state and state.is_final():
            return state
        now = time.monotonic()
        if now >= deadline:
            raise StageFailed(
                f"{stage.name}: stopped at its time limit of {stage.timeout_s:g} s on pool {stage.pool}"
            )
        if _online(client, stage.pool):
            last_online = now
        elif now - last_online >= wait_s:
            raise StageFailed(_no_worker(stage))
        time.sleep(POLL_S)


def _check(stage: Stage, state: State | None) -> None:
    if state is None or not state.is_completed():
        said = state.message if state and state.message else "it said nothing; its log is on Prefect's pages"
        crashed = state is not None and state.is_crashed()
        what = "its worker died" if crashed else "failed"
        raise StageFailed(f"{stage.name}: {what} on pool {stage.pool}: {said}")


def _cancel(client: SyncPrefectClient, run: UUID) -> None:
    """Leave no run that is never going to end: a worker stops one that is being cancelled, and where there is none, the
    run is marked as crashed."""
    state = client.read_flow_run(run).state
    if state is None or state.is_final():
        return
    client.set_flow_run_state(run, Cancelling(), force=True)
    deadline = time.monotonic() + 2 * POLL_S
    while time.monotonic() < deadline:
        state = client.read_flow_run(run).state
        if state and state.is_final():
            return
        time.sleep(min(POLL_S, 1.0))
    client.set_flow_run_state(run, Crashed(message="its worker no longer answers"), force=True)
