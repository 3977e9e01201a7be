"""Put the deployments of prefect.yaml on the server, with what they need: work pools and an end for runs that died.

    make deploy      # or: python -m flows.deploy [--webhook URL] [--pool gpu=kubernetes --image NAME]

Repeating it changes nothing that has not changed in prefect.yaml. A work pool that exists stays as it is.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, Posture, ResourceSpecification
from prefect.events.actions import ChangeFlowRunState, SendNotification

from flows.command import run_command
from flows.conclude import EVENT
from flows.project import LOCAL, read_stages
from flows.work_pools import PROCESS, TYPES, Containers, create_pools, origin, parse_types
from metavox.errors import UserError
from metavox.telemetry import disable_telemetry

SERVER_WAIT_S = 60.0
SILENT_FOR = timedelta(seconds=90)  # three heartbeats of a run (PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30)
DEAD_RUNS, FAILED_RUNS = "mark dead runs as crashed", "tell of failed runs"
CHAMPION_CHANGES = "tell of changes of the champion"
ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
HEARTBEAT = "prefect.flow-run.heartbeat"


def deploy(
    project: Path,
    webhook: str = "",
    silent_for: timedelta = SILENT_FOR,
    types: Sequence[str] = (),
    containers: Containers = Containers(),
) -> None:
    """Create the work pools of the stages, the automations, and all deployments of `project`/prefect.yaml.

    With `webhook`, an address that takes a JSON document by POST, each run that fails or dies is told there, and
    each change of the champion. `types` are POOL=TYPE; other pools are for processes. Raises UserError if the server does
    not answer within a minute, or refuses a deployment, or if a pool of such a type cannot be created.
    """
    pools = {stage.pool for stage in read_stages(project)} | {LOCAL}
    type_by_pool = parse_types(types, pools)
    with get_client(sync_client=True) as client:
        _wait_for_server(client)
        create_pools(client, pools, type_by_pool, containers)
        url = str(client.api_url)
    _replace(dead_runs(silent_for))
    if webhook:
        tell(webhook)
    # Each worker fills in its own checkout, from its environment.
    environment = {**os.environ, "PREFECT_API_URL": url}
    environment.pop("METAVOX_PROJECT", None)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise UserError(f"prefect deploy: {lines[-1] if lines else f'exit status {done.returncode}'}")


def tell(webhook: str) -> None:
    """Send a JSON document to `webhook` about each run that fails or dies and each change of the champion."""
    block = webhook_block(webhook)
    _replace(failed_runs(block))
    _replace(champion_changes(block))


def dead_runs(silent_for: timedelta = SILENT_FOR) -> Automation:
    """Mark a run as crashed when its heartbeats stop: a killed process or machine does not say that it ended."""
    return Automation(
        name=DEAD_RUNS,
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDS},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=silent_for,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name=None,
                force=True,
                message="its heartbeats stopped: the worker died",
            )
        ],
    )


def failed_runs(block: UUID) -> Automation:
    """Tell of each run that failed or crashed."""
    return Automation(
        name=FAILED_RUNS,
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="metavox: {{ flow_run.name }} {{ flow_run.state.name }}",
                body="{{ flow_run.state.message }}",
            )
        ],
    )


def champion_changes(block: UUID) -> Automation:
    """Tell of each promotion, and of each canary that comes or goes."""
    return Automation(
        name=CHAMPION_CHANGES,
        trigger=EventTrigger(expect={EVENT}, posture=Posture.Reactive, threshold=1),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="metavox: {{ event.payload.what }} {{ event.payload.version }}",
                body="{{ event.payload.why }}",
            )
        ],
    )


def webhook_block(url: str) -> UUID:
    """The block that sends a JSON document with `subject` and `text` to `url`, by POST."""
    block = CustomWebhookNotificationBlock(
        name="metavox",
        url=url,
        method="POST",
        headers=None,
        cookies=None,
        json_data={"subject": "{{subject}}", "text": "{{body}}"},
    )
    return cast("UUID", block.save("metavox", overwrite=True))


def _wait_for_server(client: SyncPrefectClient) -> None:
    deadline = time.monotonic() + SERVER_WAIT_S
    while problem := client.api_healthcheck():
        if time.monotonic() >= deadline:
            raise UserError(
                f"Prefect's server does not answer at {client.api_url} ({problem}); start it with `make server`"
            )
        time.sleep(1)


def _replace(automation: Automation) -> None:
    """Create the automation, in place of one of the same name."""
    with get_client(sync_client=True) as client:
        for existing in client.read_automations_by_name(automation.name):
            client.delete_automation(existing.id)
    automation.create()


def main() -> None:
    """`python -m flows.deploy`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy", description="Put the deployments on the server."
    )
    parser.add_argument(
        "--webhook", metavar="URL", default="", help="where failed runs and promotions are told, by POST"
    )
    parser.add_argument(
        "--pool",
        metavar="POOL=TYPE",
        action="append",
        default=[],
        help=f"create this pool for {', '.join(TYPES)} (default: {PROCESS})",
    )
    parser.add_argument("--image", metavar="NAME", default="", help="the image of the pool's containers")
    parser.add_argument(
        "--repository", metavar="URL", help="the git address that they clone (default: that of origin)"
    )
    parser.add_argument("--project", metavar="FOLDER", type=Path, default=Path())
    arguments = parser.parse_args()
    disable_telemetry()
    if "PREFECT_API_URL" not in os.environ:
        os.environ["PREFECT_API_URL"] = "http://127.0.0.1:4200/api"
    run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    project = arguments.project.resolve()
    containers = Containers(arguments.image, arguments.repository or origin(project))
    deploy(project, arguments.webhook, types=arguments.pool, containers=containers)


if __name__ == "__main__":
    main()
