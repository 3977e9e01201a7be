"""A site for tests: a real Prefect server, and clones of one project that share a DVC remote and nothing else."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from small_project import LIMIT_S, REPO, Command, Project, until

QUICK = {  # what takes minutes by default, in seconds
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "3",
    "PREFECT_WORKER_HEARTBEAT_SECONDS": "3",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


@dataclass
class Site:
    """`origin` is the orchestrator's checkout; its address in git is where the other clones come from."""

    folder: Path
    url: str
    started: list[Command] = field(default_factory=list)

    @property
    def origin(self) -> Path:
        return self.folder / "origin"

    @property
    def remote(self) -> Path:
        return self.folder / "remote"

    def create(self, **stages: dict[str, Any]) -> Project:
        """Commit a project with `stages`, whose corpus is the file `data`, and deploy the flows of its stages."""
        project = Project(self.origin)
        project.folder.mkdir()
        shutil.copytree(
            REPO / "flows", project.folder / "flows", ignore=shutil.ignore_patterns("__pycache__")
        )
        (project.folder / "data").write_text("one\n")
        project.write(**stages)
        pools = {name: stage.get("meta", {}).get("pool", "cpu") for name, stage in stages.items()}
        deployments = [
            {
                "name": name,
                "entrypoint": f"flows/stages.py:{name}",
                "work_pool": {"name": pool},
            }
            for name, pool in pools.items()
        ]
        pull = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $METAVOX_PROJECT }}"}}]
        text = yaml.safe_dump({"name": "small", "pull": pull, "deployments": deployments})
        (project.folder / "prefect.yaml").write_text(text)
        (project.folder / ".gitignore").write_text("/runs\n/.metavox\n__pycache__\n")
        for command in (
            ("git", "init", "--quiet"),
            ("dvc", "init", "--quiet"),
            ("dvc", "remote", "add", "--quiet", "-d", "store", str(self.remote)),
            ("dvc", "add", "--quiet", "data"),
        ):
            self.do(project.folder, *command)
        self.commit(project.folder)
        self.do(project.folder, "dvc", "push", "--quiet", "data.dvc")
        return project

    def commit(self, folder: Path) -> str:
        self.do(folder, "git", "add", "-A")
        self.do(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x")
        return self.do(folder, "git", "rev-parse", "HEAD").strip()

    def clone(self, name: str) -> Project:
        self.do(self.folder, "git", "clone", "--quiet", str(self.origin), name)
        return Project(self.folder / name)

    def do(self, folder: Path, *command: str) -> str:
        done = subprocess.run(
            command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        path = os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))
        return {**kept, **QUICK, "PATH": path, "PREFECT_API_URL": self.url, "PYTHONUNBUFFERED": "1"}

    def start(self, name: str, folder: Path, *command: str, **environment: str) -> Command:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env={**self.environment, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(Command(process, log))
        return self.started[-1]

    def worker(self, clone: Project, pool: str = "gpu") -> Command:
        name = clone.folder.name
        worker = self.start(
            name,
            clone.folder,
            *("prefect", "worker", "start", "--pool", pool, "--name", name),
            METAVOX_PROJECT=str(clone.folder),
        )
        worker.wait_for("started!")
        return worker

    def pipeline(self, *options: str, name: str = "pipeline", **environment: str) -> Command:
        return self.start(name, self.origin, "flows.pipeline", "--workers", *options, **environment)

    def runs(self, *states: str) -> list[str]:
        """Names of the flow runs in these states."""
        body = {"flow_runs": {"state": {"type": {"any_": list(states)}}}} if states else {}
        answer = httpx.post(f"{self.url}/flow_runs/filter", json=body, timeout=30, trust_env=False)
        return [run["name"] for run in answer.json()]

    def stop(self) -> None:
        for command in self.started:
            kill(command)


def kill(command: Command) -> None:
    """End a command and everything that it started, as when its machine fails."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(command.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    if command.process.poll() is None:
        os.killpg(command.process.pid, signal.SIGKILL)
    command.process.wait()


@contextmanager
def server(folder: Path, port: int = 0, **environment: str) -> Iterator[str]:
    """`prefect server start` with its state in `folder`; yields the address of its API."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    url = f"http://127.0.0.1:{port}/api"
    log = folder / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
            env={**kept, **QUICK, "PREFECT_HOME": str(folder), "PREFECT_API_URL": url, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    command = Command(process, log)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
        return False

    try:
        until(answers, "the server to answer")
        yield url
    finally:
        kill(command)


__all__ = ["LIMIT_S", "Site", "kill", "server"]
