"""`python -m flows.pipeline` and `flows.collect`: run a flow from the command line, and end in one clear line."""

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
from flows.project import read_stages, up_to
from flows.repro import StageFailed
from metavox.errors import UserError
from metavox.quiet import hush

FAILED, USER_FAULT, INTERRUPTED = 1, 2, 130


def main() -> None:
    """`python -m flows.pipeline`."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Bring stages up to date.")
    parser.add_argument("--stage", metavar="NAME", help="only this stage and what it needs")
    _add_shared(parser)
    parser.add_argument("--workers", action="store_true", help="use the workers of other pools")
    arguments = parser.parse_args()
    ends_in_one_line(lambda: _run(arguments))


def collect_main() -> None:
    """`python -m flows.collect INBOX`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.collect",
        description="Take new recordings into the corpus, and learn from them.",
    )
    parser.add_argument("inbox", type=Path, help="a folder or archive, as `metavox corpus add` takes it")
    parser.add_argument("--stop-after", metavar="NAME", help="the last stage to run; '' for none (all run)")
    _add_shared(parser)
    parser.add_argument("options", nargs="*", help="after --: options of `metavox corpus add`")
    arguments = parser.parse_args()
    ends_in_one_line(lambda: _collect(arguments))


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


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", metavar="SECONDS", type=float, help="to wait for another pipeline (30)")
    parser.add_argument("--project", metavar="FOLDER", type=Path, default=Path(), help="with dvc.yaml (.)")


def _run(arguments: argparse.Namespace) -> None:
    project = arguments.project.resolve()
    stages = read_stages(project)
    if arguments.stage:
        up_to(stages, arguments.stage)
    _prefect(project)
    # Imported late: a wrong argument is answered at once, not after Prefect's seconds of importing.
    from flows.pipeline import pipeline
    from flows.running import WAIT_S
    from flows.stages import stage_flow

    wait_s = WAIT_S if arguments.wait is None else arguments.wait
    if arguments.stage:
        came = stage_flow(arguments.stage)(project=str(project), wait_s=wait_s)
    else:
        came = pipeline(project=str(project), wait_s=wait_s, workers=arguments.workers)
    print("metavox: " + "; ".join(f"{name} {what}" for name, what in came.items()), flush=True)


def _collect(arguments: argparse.Namespace) -> None:
    project = arguments.project.resolve()
    stages = read_stages(project)
    if arguments.stop_after:
        up_to(stages, arguments.stop_after)
    _prefect(project)
    from flows.collect import collect
    from flows.running import WAIT_S

    found = collect(
        str(arguments.inbox.resolve()),
        arguments.options,
        str(project),
        WAIT_S if arguments.wait is None else arguments.wait,
        arguments.stop_after,
    )
    said = [f"{found['take']} taken, {found['have']} known, {found['refuse']} refused"]
    said += ["unlike what the model learned from"] * bool(found["drifted"])
    said += [f"{name} {what}" for name, what in found["stages"].items()]
    print("metavox: " + "; ".join(said), flush=True)


def _prefect(project: Path) -> None:
    hush()
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
