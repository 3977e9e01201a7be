"""What the commands `python -m flows.pipeline` and `flows.collect` share: options, Prefect's server and exit statuses."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from flows.gates import GateClosed
from flows.lock import Busy
from flows.repro import StageFailed
from metavox.errors import UserError
from metavox.telemetry import disable_telemetry

FAILED, USER_FAULT, INTERRUPTED = 1, 2, 130


def run_command(work: Callable[[], None]) -> None:
    """Run `work` and turn errors into one line and an exit status.

    0: success; 1: a stage failed or a gate is closed; 2: an error that the user can fix; 130: interrupted.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    try:
        work()
    except KeyboardInterrupt:
        _exit("interrupted; nothing is left running, and the next run continues from here", INTERRUPTED)
    except (StageFailed, GateClosed, Busy) as error:
        _exit(str(error), FAILED)
    except UserError as error:
        _exit(str(error), USER_FAULT)


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add `--wait` and `--project`, which every flow's command has."""
    parser.add_argument(
        "--wait", metavar="SECONDS", type=float, help="how long to wait for another pipeline (default: 30)"
    )
    parser.add_argument(
        "--project",
        metavar="FOLDER",
        type=Path,
        default=Path(),
        help="the folder that holds dvc.yaml (default: .)",
    )


def start_prefect(project: Path) -> None:
    """Start Prefect's temporary server, unless PREFECT_API_URL names another. Its state stays in the project."""
    disable_telemetry()
    home = project / ".metavox" / "prefect"
    if "PREFECT_HOME" not in os.environ:
        home.mkdir(parents=True, exist_ok=True)
        os.environ["PREFECT_HOME"] = str(home)
    _start_server()


def _start_server() -> None:
    """Start Prefect's temporary server out of reach of Ctrl-C. Raises UserError if it cannot be reached.

    Ctrl-C goes to every process of the terminal, but the server must live long enough to record that the run was
    interrupted. So it inherits a signal mask that blocks SIGINT; a separate thread starts it with that mask, so that
    this thread remains interruptible.
    """
    problems: list[Exception] = []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        from prefect.client.orchestration import get_client

        try:
            with get_client(sync_client=True) as client:
                problem = client.api_healthcheck()
        except Exception as error:  # noqa: BLE001 - raised in the main thread
            problem = error
        if problem:
            problems.append(problem)

    starter = threading.Thread(target=start, daemon=True)
    starter.start()
    starter.join()
    if problems:
        raise UserError(
            f"Prefect's server cannot be reached at {os.environ.get('PREFECT_API_URL', 'its own address')} "
            f"({problems[0]}); start it with `make server`, or unset PREFECT_API_URL"
        ) from problems[0]


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _exit(line: str, status: int) -> None:
    print(f"metavox: {line}", file=sys.stderr, flush=True)
    sys.exit(status)
