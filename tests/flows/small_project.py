"""Small DVC projects with shell stages, and the command that runs them."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).parents[2]
LIMIT_S = 300.0  # of any wait, on a machine that is busy with other tests


@dataclass(frozen=True)
class Project:
    """A folder with a dvc.yaml. Stages append their name to `runs`, so that tests see what was executed."""

    folder: Path

    def write(self, **stages: dict[str, Any]) -> None:
        for name, stage in stages.items():
            stage["cmd"] = f"echo {name} >> runs; {stage['cmd']}"
            stage.setdefault("meta", {}).setdefault("retry_delay_s", 0.1)
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))

    def runs(self) -> list[str]:
        path = self.folder / "runs"
        return path.read_text().split() if path.exists() else []

    def touch(self, name: str) -> None:
        (self.folder / name).touch()


@dataclass(frozen=True)
class Command:
    """A running `python -m flows.pipeline` whose output goes to a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, text: str) -> None:
        """Wait until the command has printed `text`."""
        until(lambda: text in self.text() or self.process.poll() is not None, f"{text!r} in the output")
        assert text in self.text()

    def wait(self) -> int:
        return self.process.wait(timeout=LIMIT_S)

    def text(self) -> str:
        return self.log.read_text()

    def message(self) -> str:
        """The line that the command itself printed among those of Prefect."""
        (line,) = (line for line in self.text().splitlines() if line.startswith("metavox: "))
        return line


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until `condition` holds; fail after a generous limit."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for: {what}"
        time.sleep(0.05)
