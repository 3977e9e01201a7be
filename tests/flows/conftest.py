"""A small project for each test, and one Prefect server for all tests here."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_project import LIMIT_S, REPO, Command, Project

from metavox.telemetry import disable_telemetry

disable_telemetry()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a real Prefect server with its own database."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "data").write_text("one\n")
    return Project(tmp_path)


@pytest.fixture
def pipeline_command(
    project: Project, server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment["PYTHONUNBUFFERED"] = "1"

    def start(*arguments: str, own_server: bool = False, **own: str) -> Command:
        log = tmp_path_factory.mktemp("log") / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.pipeline", "--project", str(project.folder), *arguments],
                cwd=REPO,
                env={**environment, "PYTHONUNBUFFERED": "1"}
                | ({} if own_server else {"PREFECT_API_URL": server})
                | own,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(Command(process, log))
        return started[-1]

    yield start
    for command in started:
        if command.process.poll() is None:
            command.process.terminate()
            command.process.wait(timeout=LIMIT_S)
