"""Where deltas are kept: the folder of a store, or a running server. Both answer the same."""

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
from metavox.serve.description import described
from metavox.serve.store import FILES, KINDS, Store, check_name, kind_of_delta

TIMEOUT_S = 120.0
LARGEST = 256 << 20  # bytes of an archive
Described = Mapping[str, Any]


class Place(Protocol):
    """Deltas by name. Raises UserError where one is not there, or not allowed."""

    def list(self) -> list[Described]: ...

    def show(self, name: str) -> Described: ...

    def push(self, name: str, folder: Path) -> Described: ...

    def pull(self, name: str) -> dict[str, bytes]:
        """The delta's files, by name."""

    def remove(self, name: str) -> None: ...


class LocalPlace:
    """A store's folder, which a server may use at the same time."""

    def __init__(self, root: Path):
        self.store = Store(root)

    def list(self) -> list[Described]:
        return [described(entry) for kind in KINDS for entry in self.store.entries(kind)]

    def show(self, name: str) -> Described:
        return described(self.store.entry(self.store.kind_of(name), name))

    def push(self, name: str, folder: Path) -> Described:
        delta = load_delta(folder)
        self.store.save(kind_of_delta(delta), name, delta)
        return self.show(name)

    def pull(self, name: str) -> dict[str, bytes]:
        return self.store.files(self.store.kind_of(name), name)

    def remove(self, name: str) -> None:
        self.store.delete(self.store.kind_of(name), name)


class ServerPlace:
    """A server that `metavox serve` started, by its address."""

    def __init__(self, address: str):
        parts = urlsplit(address if "//" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--server {address}: expected an address such as http://127.0.0.1:3000")
        self.address = f"{parts.scheme}://{parts.netloc}"

    def list(self) -> list[Described]:
        return list(self._asked("GET", "").json()["data"])

    def show(self, name: str) -> Described:
        return dict(self._asked("GET", f"/{check_name(name)}").json())

    def push(self, name: str, folder: Path) -> Described:
        load_delta(folder)  # what is not whole is not worth sending
        files = {file: (file, (folder / file).read_bytes()) for file in FILES}
        return dict(self._asked("PUT", f"/{check_name(name)}", files=files).json())

    def pull(self, name: str) -> dict[str, bytes]:
        data = self._asked("GET", f"/{check_name(name)}/archive").content
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                return {file: tar.extractfile(file).read() for file in FILES}  # type: ignore[union-attr]
        except (tarfile.TarError, KeyError, AttributeError) as error:
            raise UserError(f"{self.address}: sent no whole delta ({error}); try again") from error

    def remove(self, name: str) -> None:
        self._asked("DELETE", f"/{check_name(name)}")

    def _asked(self, method: str, path: str, **what: Any) -> httpx.Response:
        url = f"{self.address}/v1/deltas{path}"
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client,
                client.stream(method, url, **what) as answer,
            ):
                data = b""
                for part in answer.iter_bytes():
                    data += part
                    if len(data) > LARGEST:
                        raise UserError(f"{url}: answered with over {LARGEST >> 20} MiB; that is no delta")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            told = str(error) or type(error).__name__
            raise UserError(
                f"no server answers at {self.address} ({told}); start one with `metavox serve`"
            ) from error
        whole = httpx.Response(answer.status_code, content=data)
        try:
            told = whole.json()["error"]["message"] if whole.is_error else ""
            if not whole.is_error and not path.endswith("/archive"):
                whole.json()
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{url}: status {whole.status_code}, not the answer of a metavox server; check --server"
            ) from error
        if whole.is_error:
            raise UserError(f"{self.address}: {told}")
        return whole


def keep(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a delta's files to `folder`, in place of an older delta, once they are seen to be one."""
    if (
        folder.exists()
        and not (folder / FILES[0]).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        raise UserError(f"--out {folder}: holds something that is no delta; choose a new folder")
    with written_aside(folder) as aside:
        aside.mkdir()
        for name in FILES:
            (aside / name).write_bytes(files[name])
        load_delta(aside)
