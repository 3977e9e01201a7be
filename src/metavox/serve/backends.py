"""Two backends for `metavox deltas` with one interface: a store's folder, and a running server."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.recognisers.delta import load_delta
from metavox.serve.description import describe_entry
from metavox.serve.store import FILES, KINDS, Store, check_name, kind_of_delta

TIMEOUT_S = 120.0
MAX_RESPONSE_BYTES = 256 << 20
Description = Mapping[str, Any]


class Backend(Protocol):
    """Deltas by name. Methods raise UserError for a name that does not exist or is not allowed."""

    def list(self) -> list[Description]: ...

    def show(self, name: str) -> Description: ...

    def push(self, name: str, folder: Path) -> Description: ...

    def pull(self, name: str) -> dict[str, bytes]:
        """Return the delta's files by file name."""

    def remove(self, name: str) -> None: ...


class LocalBackend:
    """A store's folder. A server may use it at the same time."""

    def __init__(self, root: Path):
        self.store = Store(root)

    def list(self) -> list[Description]:
        return [describe_entry(entry) for kind in KINDS for entry in self.store.entries(kind)]

    def show(self, name: str) -> Description:
        return describe_entry(self.store.entry(self.store.kind_of(name), name))

    def push(self, name: str, folder: Path) -> Description:
        delta = load_delta(folder)
        self.store.save(kind_of_delta(delta), name, delta)
        return self.show(name)

    def pull(self, name: str) -> dict[str, bytes]:
        return self.store.files(self.store.kind_of(name), name)

    def remove(self, name: str) -> None:
        self.store.delete(self.store.kind_of(name), name)


class ServerBackend:
    """A server that `metavox serve` started, at `address`. Raises UserError for a malformed address."""

    def __init__(self, address: str):
        parts = urlsplit(address if "//" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--server {address}: expected an address such as http://127.0.0.1:3000")
        self.address = f"{parts.scheme}://{parts.netloc}"

    def list(self) -> list[Description]:
        return list(self._request("GET", "").json()["data"])

    def show(self, name: str) -> Description:
        return dict(self._request("GET", f"/{check_name(name)}").json())

    def push(self, name: str, folder: Path) -> Description:
        load_delta(folder)  # do not send an incomplete delta
        files = {file: (file, (folder / file).read_bytes()) for file in FILES}
        return dict(self._request("PUT", f"/{check_name(name)}", files=files).json())

    def pull(self, name: str) -> dict[str, bytes]:
        data = self._request("GET", f"/{check_name(name)}/archive").content
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                return {file: tar.extractfile(file).read() for file in FILES}  # type: ignore[union-attr]
        except (tarfile.TarError, KeyError, AttributeError) as error:
            raise UserError(f"{self.address}: sent an incomplete delta ({error}); try again") from error

    def remove(self, name: str) -> None:
        self._request("DELETE", f"/{check_name(name)}")

    def _request(self, method: str, path: str, **content: Any) -> httpx.Response:
        url = f"{self.address}/v1/deltas{path}"
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client,
                client.stream(method, url, **content) as stream,
            ):
                data = b""
                for chunk in stream.iter_bytes():
                    data += chunk
                    if len(data) > MAX_RESPONSE_BYTES:
                        raise UserError(
                            f"{url}: the response is over {MAX_RESPONSE_BYTES >> 20} MiB, too large for a delta"
                        )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise UserError(
                f"no server answers at {self.address} ({reason}); start one with `metavox serve`"
            ) from error
        response = httpx.Response(stream.status_code, content=data)
        try:
            message = response.json()["error"]["message"] if response.is_error else ""
            if not response.is_error and not path.endswith("/archive"):
                response.json()
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{url}: status {response.status_code}, and not a metavox server's response; check --server"
            ) from error
        if response.is_error:
            raise UserError(f"{self.address}: {message}")
        return response


def write_delta_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a delta's files to `folder`, replacing an older delta. Raises UserError unless they are a valid delta."""
    if (
        folder.exists()
        and not (folder / FILES[0]).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise UserError(f"--out {folder}: exists and is not a delta; choose a new folder")
    with written_aside(folder) as aside:
        aside.mkdir()
        for name in FILES:
            (aside / name).write_bytes(files[name])
        load_delta(aside)
