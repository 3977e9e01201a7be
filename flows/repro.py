"""Call DVC: find the stages that are out of date, reproduce a stage, exchange results with the remote."""

import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.process import OutOfTime, run
from flows.project import Stage
from metavox.errors import UserError

STATUS_TIMEOUT_S = 600.0
USER_FAULT = 2
PIPELINE, CORPUS = "dvc.yaml", "data.dvc"
# DVC's advice for interactive use, which is useless in a log.
HINTS = (
    "To track the changes with git",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config core.autostage",
    "Use `dvc push` to",
    "Generating lock file",
    "Updating lock file",
)
Log = Callable[[str], None]


class StageFailed(Exception):
    """A stage failed for a reason other than its inputs, so it may be retried."""


@dataclass(frozen=True)
class Checkout:
    """A project folder and the descriptor of the lock that makes this process its only writer.

    Its commands get the variables `environment`, and are stopped when `stop` is set.
    """

    project: Path
    lock: int
    environment: Mapping[str, str] = field(default_factory=dict)
    stop: threading.Event | None = None


def out_of_date(checkout: Checkout, log: Log) -> set[str]:
    """The names of the stages whose code, data, parameters or outputs have changed according to DVC.

    A stage whose inputs will change only when an earlier stage runs is not included.
    """
    status, lines = _dvc(checkout, ["status", "--json", "dvc.yaml"], lambda line: None, STATUS_TIMEOUT_S)
    answer = next((line for line in reversed(lines) if line.startswith("{")), None)
    if status != 0 or answer is None:
        for line in lines:
            log(line)
        raise _fault("dvc status", lines)
    return set(json.loads(answer))


def reproduce(checkout: Checkout, stage: Stage, log: Log, pull: bool = False) -> str:
    """Run `dvc repro` for one stage, whose dependencies are up to date; return "ran", "from cache" or "up to date".

    With `pull`, a result that another machine pushed is downloaded instead of running the stage. Raises UserError if the
    stage reports a fault in its inputs, StageFailed for any other failure.
    """
    try:
        status, lines = _dvc(
            checkout,
            ["repro", "--single-item", *(["--pull"] if pull else []), stage.name],
            log,
            stage.timeout_s,
        )
    except OutOfTime as error:
        raise StageFailed(f"{stage.name}: {error}") from error
    if status != 0:
        raise _fault(stage.name, lines)
    if f"Running stage '{stage.name}':" in lines:
        return "ran"
    cached = any(line.startswith(f"Stage '{stage.name}' is cached") for line in lines)
    return "from cache" if cached else "up to date"


def run_experiment(
    checkout: Checkout, stage: Stage, name: str, values: Mapping[str, object], log: Log, timeout_s: float
) -> None:
    """Run a stage and those that it needs with other `values` by key of params.yaml, as DVC's experiment `name`.

    The results stay in the checkout. Raises as `reproduce` does.
    """
    # JSON quotes strings as DVC's --set-param reads them.
    changes = [f"--set-param={key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    try:
        status, lines = _dvc(checkout, ["exp", "run", "--name", name, *changes, stage.name], log, timeout_s)
    except OutOfTime as error:
        raise StageFailed(f"{stage.name}: {error}") from error
    if status != 0:
        raise _fault(stage.name, lines)


def fetch_results(checkout: Checkout) -> None:
    """Download other machines' results into the cache. Files in the checkout stay as they are, whatever state a killed
    run left them in. Raises StageFailed if the DVC remote cannot be reached."""
    _exchange(checkout, "fetch", [PIPELINE])


def push_results(checkout: Checkout) -> None:
    """Upload what the remote lacks of the corpus, the outputs and the run-cache. Raises StageFailed as `fetch_results`."""
    corpus = [name for name in (CORPUS,) if (checkout.project / name).is_file()]
    _exchange(checkout, "push", [PIPELINE, *corpus])


def _exchange(checkout: Checkout, command: str, targets: list[str]) -> None:
    status, lines = _dvc(checkout, [command, "--run-cache", *targets], lambda line: None, None)
    if status != 0:
        raise unreachable(f"dvc {command}: {_reason(lines)}")


def unreachable(reason: str) -> StageFailed:
    """The error that says that the DVC remote could not be used, and what becomes of the work."""
    return StageFailed(
        f"remote unreachable: {reason}; check the address that `dvc remote list` shows and run again: finished work is "
        "kept here and uploaded then"
    )


def _dvc(
    checkout: Checkout, arguments: list[str], log: Log, timeout_s: float | None
) -> tuple[int, list[str]]:
    def log_unless_hint(line: str) -> None:
        if not line.startswith(HINTS):
            log(line)

    command = [sys.executable, "-m", "dvc", *arguments]
    return run(
        command,
        checkout.project,
        log_unless_hint,
        timeout_s,
        [checkout.lock],
        checkout.stop,
        checkout.environment,
    )


def _fault(name: str, lines: list[str]) -> Exception:
    """The error that DVC's output reports: UserError if the stage exited with USER_FAULT, else StageFailed."""
    exits = [int(match[1]) for line in lines if (match := re.search(r"exited with (-?\d+)$", line))]
    own = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
    blocked = [line.strip() for line in lines if re.match(r"\s*\(PID \d+\): ", line)]
    if blocked:
        return StageFailed(
            f"{name}: DVC is locked by {blocked[0]}; wait for it, or remove .dvc/tmp/rwlock if it is not a dvc command"
        )
    if own:
        reason = own[-1]
    elif exits:
        reason = f"exit status {exits[-1]}; the lines above say why"
    else:
        reason = _reason(lines)
    kind = UserError if exits and exits[-1] == USER_FAULT else StageFailed
    return kind(f"{name}: {reason.removeprefix(f'{name}: ')}")


def _reason(lines: list[str]) -> str:
    """The line of DVC's output that states the error, in words that say where the disk is full if it is."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or ["failed without any output"])[-1]
    if "No space left on device" in reason:
        return f"{reason}; free space where DVC's cache is (`dvc cache dir`), or move it with `dvc cache dir PATH`"
    return reason
