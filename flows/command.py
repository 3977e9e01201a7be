"""What `python -m flows.pipeline` and `flows.collect` share: arguments, Prefect's server, and an end in one clear line."""

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


def ends_in_one_line(work: Callable[[], None]) -> None:
    """Exit status: 0 done, 1 a stage or a gate stopped it, 2 the user can fix it, 130 interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    try:
        work()
    except KeyboardInterrupt:
        _end("interrupted; nothing is left running, and the next run goes on from here", INTERRUPTED)
    except (StageFailed, GateClosed, Busy) as error:
        _end(str(error), FAILED)
    except UserError as error:
        _end(str(error), USER_FAULT)


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """`--wait` and `--project`, which every flow's command has."""
    parser.add_argument("--wait", metavar="SECONDS", type=float, help="to wait for another pipeline (30)")
    parser.add_argument("--project", metavar="FOLDER", type=Path, default=Path(), help="with dvc.yaml (.)")


def start_prefect(project: Path) -> None:
    """Start Prefect's temporary server where no PREFECT_API_URL names another; its state stays in the project."""
    disable_telemetry()
    home = project / ".metavox" / "prefect"
    if "PREFECT_HOME" not in os.environ:
        home.mkdir(parents=True, exist_ok=True)
        os.environ["PREFECT_HOME"] = str(home)
    _start_server()


def _start_server() -> None:
    """Start Prefect's temporary server, where no PREFECT_API_URL is set, out of reach of Ctrl-C.

    Ctrl-C goes to every process of the terminal. The server must outlive it for long enough to record
    that the run was interrupted, so it inherits a mask in which SIGINT is blocked. A thread of its own
    carries the mask: this one stays interruptible meanwhile.
    """
    problems: list[Exception] = []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        from prefect.client.orchestration import get_client

        try:
            with get_client(sync_client=True):
                pass
        except Exception as error:  # noqa: BLE001 - carried to the main thread
            problems.append(error)

    starter = threading.Thread(target=start, daemon=True)
    starter.start()
    starter.join()
    if problems:
        raise UserError(f"Prefect's server cannot be reached: {problems[0]}") from problems[0]


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end(line: str, status: int) -> None:
    print(f"metavox: {line}", file=sys.stderr, flush=True)
    sys.exit(status)
