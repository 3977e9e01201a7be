"""A real SSH server for tests that needs no installation: `python sftp_server.py PORT FOLDER`.

FOLDER holds `host_key` and `authorized_keys`. It serves files with the rights of the user who starts it, on loopback.
"""

import asyncio
import sys
from pathlib import Path

import asyncssh


async def serve(port: int, folder: Path) -> None:
    server = await asyncssh.listen(
        "127.0.0.1",
        port,
        server_host_keys=[str(folder / "host_key")],
        authorized_client_keys=str(folder / "authorized_keys"),
        sftp_factory=True,
    )
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
