"""The server's processes: start them, wait until they answer, and stop every one of them."""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import httpx
import psutil

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.telemetry import disable_telemetry

LOCAL = Path(".metavox")
SERVICE = "metavox.serve.service:Metavox"
READY_S = 120.0
GRACE_S = 10.0
PORTS = range(20_000, 32_000)
MARK = "METAVOX_SERVER"  # identifies the processes of one server by their environment
DELTAS = "METAVOX_DELTAS"  # a JSON list of folders of deltas to serve beside the store
FOLLOW = "METAVOX_FOLLOW"  # set if the model's folder is to be served again when it is replaced
REQUEST_LOG = "METAVOX_REQUEST_LOG"  # the file of JSON lines to which each request is logged
INBOX = "METAVOX_INBOX"  # the folder that feedback goes to
FAILURE = "METAVOX_FAILURE"  # the file to which a worker writes why it cannot start


@dataclass(frozen=True)
class Target:
    """What to serve: BentoML's identifier and the environment variables that it needs."""

    identifier: str
    environment: dict[str, str] = field(default_factory=dict)


def bundle_target(bundle: Path) -> Target:
    """The target for a built bundle: a tar file (unpacked into `.metavox` once) or the folder of an unpacked one.

    Raises UserError when it is missing or not a Bento.
    """
    if bundle.is_dir():
        if not (bundle / "bento.yaml").is_file():
            raise UserError(
                f"--bundle {bundle}: no bento.yaml in it; expected the folder of an unpacked Bento"
            )
        return Target(str(bundle.absolute()), {"METAVOX_MODEL": ""})
    if not bundle.is_file():
        raise UserError(f"--bundle {bundle}: no such file; `metavox stage package` makes one")
    return Target(str(_unpacked(bundle)), {"METAVOX_MODEL": ""})


def model_target(model: Path | str) -> Target:
    """The target for a base's folder or name, served by the code that is running."""
    return Target(SERVICE, {"METAVOX_MODEL": model if isinstance(model, str) else str(model.absolute())})


@dataclass(frozen=True)
class Server:
    """A running server that answers at `address`."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        """Wait for the server. Raises UserError when it ends, which it should not do by itself."""
        status = self.process.wait()
        raise UserError(f"the server ended with status {status} (see {self.log}): {_last_lines(self.log)}")


@contextmanager
def serving(
    target: Target, host: str, port: int, store: Path, deltas: Sequence[Path] = (), ready_s: float = READY_S
) -> Iterator[Server]:
    """Run a server for the length of the block and yield it once it answers. `deltas` are served beside the store.

    No process of the server survives the block, however the block ends. Raises UserError when the port is in use, or,
    with the last lines of the log, when the server does not start.
    """
    host = _address(host, port)
    shown = "127.0.0.1" if ip_address(host).is_unspecified else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    mark = uuid4().hex
    # One folder per server, because a starting server clears the metrics in its folder.
    home = (LOCAL / "bentoml" / f"serve-{mark}").absolute()
    log = LOCAL / "logs" / f"serve-{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True)
    disable_telemetry()
    environment = {
        **os.environ,
        **target.environment,
        MARK: mark,
        FAILURE: str(home / "failure"),
        "BENTOML_HOME": str(home),
        "METAVOX_STORE": str(store.absolute()),
        "PYTHONUNBUFFERED": "1",
        DELTAS: json.dumps([str(folder.absolute()) for folder in deltas]),
    }
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        target.identifier,
        "--host",
        host,
        "--port",
        str(port),
    ]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _wait_ready(process, address, log, home / "failure", ready_s)
            yield Server(address, process, log)
        finally:
            _stop(process, mark)
            shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    """A port that nothing listens on, outside the system's ephemeral range, from which BentoML takes ports of its own."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise UserError(f"no port from {PORTS.start} to {PORTS.stop} is free; stop what listens there")


def _unpacked(bundle: Path) -> Path:
    with bundle.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = (LOCAL / "bentoml" / "unpacked" / name).absolute()
    if not folder.is_dir():
        try:
            with written_aside(folder) as aside, tarfile.open(bundle) as archive:
                archive.extractall(aside, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(
                f"--bundle {bundle}: not a complete Bento ({error}); run `metavox stage package`"
            ) from error
    if not (folder / "bento.yaml").is_file():
        raise UserError(
            f"--bundle {bundle}: no bento.yaml in it; expected what `metavox stage package` makes"
        )
    return folder


def _address(host: str, port: int) -> str:
    """The IP address to listen on. Raises UserError for another host name and for a port in use."""
    host = "127.0.0.1" if host == "localhost" else host
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError as error:
        raise UserError(f"--host {host}: expected an IP address such as 127.0.0.1 or 0.0.0.0") from error
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(
                f"cannot listen on {host} port {port} ({reason.lower()}); "
                "stop what uses it or choose another --port"
            ) from error
    return host


def _wait_ready(
    process: subprocess.Popen[bytes], address: str, log: Path, failure: Path, ready_s: float
) -> None:
    deadline = time.monotonic() + ready_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"the server ended before it was ready (see {log}): {_last_lines(log)}")
        if failure.exists():  # BentoML would restart such a worker forever
            raise UserError(f"the server cannot start (see {log}): {_last_lines(failure)}")
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/readyz", timeout=5.0, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)
    raise UserError(f"the server was not ready after {ready_s:.0f} s (see {log}): {_last_lines(log)}")


def _last_lines(log: Path, count: int = 3) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return " | ".join([line for line in lines if line][-count:])[-600:] or "no output"


def _stop(process: subprocess.Popen[bytes], mark: str) -> None:
    """Ask the supervisor to end its workers, then kill those that remain: workers have sessions of their own, but MARK."""
    try:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
    finally:
        while remaining := [p for p in psutil.process_iter() if _is_ours(p, mark)]:
            for worker in remaining:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
            process.poll()
            psutil.wait_procs(remaining, timeout=1.0)
        process.wait()


def _is_ours(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
