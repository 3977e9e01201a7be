"""DVC remotes for tests: real SSH and S3 servers on loopback, which can be stopped and started again."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import asyncssh
from clones import kill
from small_project import Command, until

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
ACCESS_KEY = "test"


class Server:
    """A server process on one port of 127.0.0.1 with its state in `folder`."""

    runs_as: str | None = None  # None: the user of the tests
    running: Command

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def command(self) -> list[str]:
        raise NotImplementedError

    def config(self) -> str:
        """The section of `.dvc/config` that names this remote."""
        raise NotImplementedError

    def start(self) -> None:
        log = self.folder / "server.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.command(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.runs_as,
            )
        self.running = Command(process, log)

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return True
            return False

        until(answers, "the server to answer")

    def stop(self) -> None:
        """Break all connections and accept no new ones."""
        kill(self.running)


class Ssh(Server):
    """An SSH server with keys of its own: asyncssh's, which DVC's SSH client brings along."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in ("host_key", "user_key"):
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(str(folder / name))
            (folder / name).chmod(0o600)
            key.write_public_key(str(folder / f"{name}.pub"))
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")

    def command(self) -> list[str]:
        script = Path(__file__).with_name("sftp_server.py")
        return [sys.executable, str(script), str(self.port), str(self.folder)]

    def config(self) -> str:
        user = self.runs_as or pwd.getpwuid(os.geteuid()).pw_name
        return (
            f"url = ssh://{user}@127.0.0.1:{self.port}{self.folder}/store\n"
            f"keyfile = {self.folder / 'user_key'}\n"
        )


class OpenSsh(Ssh):
    """OpenSSH's server. As root it would need a folder of the system, so then another user runs it."""

    runs_as = "nobody" if os.geteuid() == 0 else None

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if self.runs_as:
            for path in (folder, folder / "host_key", folder / "authorized_keys"):
                shutil.chown(path, self.runs_as)

    def command(self) -> list[str]:
        assert SSHD is not None
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder / 'host_key'}\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nPidFile none\nUsePAM yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\n"
            "Subsystem sftp internal-sftp\n"
        )
        return [SSHD, "-D", "-e", "-f", str(config)]


class S3(Server):
    """moto's S3 server. It keeps its buckets in memory, so stopping it also loses them."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)]

    def start(self) -> None:
        import boto3

        super().start()
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": ACCESS_KEY}
        boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys).create_bucket(
            Bucket="bucket"
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def config(self) -> str:
        return (
            f"url = s3://bucket/store\nendpointurl = {self.url}\nregion = us-east-1\n"
            f"access_key_id = {ACCESS_KEY}\nsecret_access_key = {ACCESS_KEY}\n"
        )
