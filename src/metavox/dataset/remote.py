"""A corpus folder at a URL, through fsspec: a local path, http(s), s3, gs, memory."""

import io
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pandas as pd
import pyarrow.parquet as parquet

from metavox.errors import UserError

STALLED_S = 60.0  # without a byte for so long, a transfer has failed
CHUNK = 100_000  # rows of a manifest held at once
PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}


@dataclass(frozen=True)
class Remote:
    """A folder at a URL. Each read of a file is one request for all of it, tried `tries` times.

    Raises UserError for a URL that nothing here can open.
    """

    url: str
    tries: int = 3
    wait_s: float = 1.0
    _fs: Any = field(init=False, repr=False, compare=False)
    _root: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fs, root = _opened(self.url.rstrip("/"))
        object.__setattr__(self, "_fs", fs)
        object.__setattr__(self, "_root", root)

    def __reduce__(self) -> tuple[Any, ...]:
        return Remote, (self.url, self.tries, self.wait_s)  # a worker process makes its own connections

    def shard(self, name: str) -> tuple[bytes, dict[str, tuple[int, int]], str]:
        """A tar file's bytes, (offset, size) of each whole member in it, and what is wrong, if anything is."""
        data, problem = b"", ""
        members: dict[str, tuple[int, int]] = {}
        for attempt in range(self.tries):
            if attempt:
                time.sleep(self.wait_s * 2 ** (attempt - 1))
            try:
                data = self._fs.cat_file(f"{self._root}/{name}")
            except (FileNotFoundError, PermissionError) as error:
                return b"", {}, _reason(error)
            except Exception as error:  # noqa: BLE001 - what is raised is the storage library's own
                problem = f"{_reason(error)}, {self.tries} tries"
                continue
            members, problem = tar_members(data)
            if not problem:
                break
        return data, members, problem

    def manifest(self, columns: list[str]) -> Iterator[pd.DataFrame]:
        """Rows of manifest.parquet, else manifest.csv, in parts, as text; what is missing is empty.

        Raises UserError when there is neither, or when it cannot be read.
        """
        for name, read in (("manifest.parquet", _parquet_parts), ("manifest.csv", _csv_parts)):
            with self._manifest_errors(name):
                try:
                    file = self._file(f"{self._root}/{name}")
                except FileNotFoundError:
                    continue
                with file:
                    for part in read(file, columns):
                        yield pd.DataFrame(
                            {
                                name: part[name].fillna("").astype(str) if name in part else ""
                                for name in columns
                            },
                            index=part.index,
                        )
                return
        raise UserError(
            f"{self.url}: no manifest.parquet and no manifest.csv there; expected a corpus folder with a manifest and "
            "shards/, as `metavox corpus build` makes"
        )

    def _file(self, path: str) -> Any:
        """Parquet is read from its end, which not every web server can do; a CSV is one request, not one a block."""
        if not self.url.startswith("http"):
            return self._fs.open(path, "rb")
        if path.endswith(".parquet"):
            return io.BytesIO(self._fs.cat_file(path))
        return self._fs.open(path, "rb", block_size=0)

    @contextmanager
    def _manifest_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.url}/{name}: cannot be read ({_reason(error)}); check the URL, the network and the credentials"
            ) from error


def tar_members(data: bytes) -> tuple[dict[str, tuple[int, int]], str]:
    """(offset, size) of each member that is whole, and what is wrong with the rest."""
    members, problem = {}, ""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.isfile() and member.offset_data + member.size <= len(data):
                    members[member.name] = (member.offset_data, member.size)
                elif member.isfile():
                    problem = f"cut short after {len(data)} bytes"
    except tarfile.TarError as error:
        problem = f"no tar file that can be read to its end ({_reason(error)})"
    if not problem and not data.endswith(bytes(512)):
        problem = f"cut short after {len(data)} bytes"
    return members, problem


def _opened(url: str) -> tuple[Any, str]:
    protocol = fsspec.utils.get_protocol(url)
    options: dict[str, Any] = {}
    try:
        if protocol.startswith("http"):
            import aiohttp

            # aiohttp's own limit is five minutes for a whole file, however fast it comes.
            limits = aiohttp.ClientTimeout(total=None, sock_connect=STALLED_S, sock_read=STALLED_S)
            options = {"client_kwargs": {"timeout": limits}, "skip_instance_cache": True}
        return fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = PACKAGES.get(protocol, "")
        raise UserError(
            f"{url}: {protocol}:// needs a package that is not installed; "
            f"{f'pip install {package}' if package else _reason(error)}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{url}: {_reason(error)}; expected a folder's path or a URL such as s3://bucket/folder or https://host/folder"
        ) from error


def _csv_parts(file: Any, columns: list[str]) -> Iterator[pd.DataFrame]:
    yield from pd.read_csv(
        file, dtype=str, keep_default_na=False, chunksize=CHUNK, usecols=lambda name: name in columns
    )


def _parquet_parts(file: Any, columns: list[str]) -> Iterator[pd.DataFrame]:
    table = parquet.ParquetFile(file)
    there = [name for name in columns if name in table.schema_arrow.names]
    for batch in table.iter_batches(CHUNK, columns=there):
        yield batch.to_pandas()


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
