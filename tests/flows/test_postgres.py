"""Prefect's server on a real PostgreSQL: one setting, and the state outlives the server."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clones import server

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="needs Debian's package postgresql")


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database of a cluster of its own."""
    # A folder of its own: PostgreSQL does not run as root, and cannot enter root's temporary folders.
    folder = Path(tempfile.mkdtemp(prefix="metavox-postgres-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [str(PROGRAMS[-1] / program), *arguments]
        subprocess.run(command, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)

    run("initdb", "-D", str(folder / "data"), "-U", "prefect", "-A", "trust")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    run("pg_ctl", "-D", str(folder / "data"), "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_the_servers_state_is_in_postgres(tmp_path: Path, database: str) -> None:
    setting = {"PREFECT_API_DATABASE_CONNECTION_URL": database}
    with server(tmp_path / "first", **setting) as url:
        made = httpx.post(
            f"{url}/work_pools/", json={"name": "gpu", "type": "process"}, timeout=60, trust_env=False
        )
        assert made.status_code == 201, made.text
    with server(tmp_path / "second", **setting) as url:
        found = httpx.get(f"{url}/work_pools/gpu", timeout=60, trust_env=False)
        assert found.json()["type"] == "process"
    assert not list(tmp_path.rglob("prefect.db"))
