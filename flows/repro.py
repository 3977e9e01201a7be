"""DVC, asked: which stages are out of date, and bring this one up to date."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.process import OutOfTime, run
from flows.project import Stage
from metavox.errors import UserError

STATUS_TIMEOUT_S = 600.0
USER_FAULT = 2
# What DVC adds for people at a terminal, of no use in a log.
HINTS = (
    "To track the changes with git",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config core.autostage",
    "Use `dvc push` to",
    "Generating lock file",
    "Updating lock file",
)
Say = Callable[[str], None]


class StageFailed(Exception):
    """A stage ended badly through no fault of what it was given: it may be tried again."""


@dataclass(frozen=True)
class Checkout:
    """A project folder, and the descriptor of the lock that makes this process its only writer."""

    project: Path
    lock: int


def out_of_date(checkout: Checkout, say: Say) -> set[str]:
    """Names of the stages that DVC sees changed: code, data, parameters or outputs.

    A stage whose inputs will only change once an earlier stage has run is not among them.
    """
    status, lines = _dvc(checkout, ["status", "--json", "dvc.yaml"], lambda line: None, STATUS_TIMEOUT_S)
    answer = next((line for line in reversed(lines) if line.startswith("{")), None)
    if status != 0 or answer is None:
        for line in lines:
            say(line)
        raise _fault("dvc status", lines)
    return set(json.loads(answer))


def reproduce(checkout: Checkout, stage: Stage, say: Say, pull: bool = False) -> str:
    """Run `dvc repro` for one stage, after those that it needs; returns what came of it: "ran", "from cache" or "up to
    date".

    With `pull`, a result that another machine pushed is taken instead of running.
    Raises UserError when the stage says that its input is at fault, StageFailed on anything else.
    """
    try:
        status, lines = _dvc(
            checkout,
            ["repro", "--single-item", *(["--pull"] if pull else []), stage.name],
            say,
            stage.timeout_s,
        )
    except OutOfTime as error:
        raise StageFailed(f"{stage.name}: {error}") from error
    _or_fail(stage.name, status, lines)
    if f"Running stage '{stage.name}':" in lines:
        return "ran"
    cached = any(line.startswith(f"Stage '{stage.name}' is cached") for line in lines)
    return "from cache" if cached else "up to date"


def pull_results(checkout: Checkout, say: Say) -> None:
    """Take from the DVC remote what other machines left there: their outputs, and which run made them."""
    _or_fail("dvc pull", *_dvc(checkout, ["pull", "--run-cache", "--allow-missing"], say, None))


def push_results(checkout: Checkout, stage: Stage, say: Say) -> None:
    """Leave a stage's result in the DVC remote for other machines."""
    _or_fail("dvc push", *_dvc(checkout, ["push", "--run-cache", stage.name], say, None))


def _or_fail(name: str, status: int, lines: list[str]) -> None:
    if status != 0:
        raise _fault(name, lines)


def _dvc(
    checkout: Checkout, arguments: list[str], say: Say, timeout_s: float | None
) -> tuple[int, list[str]]:
    def say_news(line: str) -> None:
        if not line.startswith(HINTS):
            say(line)

    command = [sys.executable, "-m", "dvc", *arguments]
    return run(command, checkout.project, say_news, timeout_s, keep_open=[checkout.lock])


def _fault(name: str, lines: list[str]) -> Exception:
    """The one line that says what went wrong, as the kind of error that it is."""
    exits = [int(found[1]) for line in lines if (found := re.search(r"exited with (-?\d+)$", line))]
    own = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
    blocked = [line.strip() for line in lines if re.match(r"\s*\(PID \d+\): ", line)]
    if blocked:
        return StageFailed(
            f"{name}: DVC waits for {blocked[0]}; if that is not a dvc command, remove .dvc/tmp/rwlock"
        )
    if own:
        reason = own[-1]
    elif exits:
        reason = f"exit status {exits[-1]}; the lines above say why"
    else:
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        reason = (errors or lines or ["ended without a word"])[-1]
    kind = UserError if exits and exits[-1] == USER_FAULT else StageFailed
    return kind(f"{name}: {reason.removeprefix(f'{name}: ')}")
