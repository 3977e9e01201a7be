"""Reads a corpus folder at a URL through fsspec: a local path, http(s), s3, gs or memory."""

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

STALLED_S = 60.0  # a transfer without a byte for this long has failed
CHUNK_ROWS = 100_000  # of a manifest in memory at once
PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}


@dataclass(frozen=True)
class Remote:
    """A folder at a URL. A shard is read in a single request, tried up to `tries` times with growing pauses.

    Raises UserError for a URL that no installed package can open.
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
        return Remote, (self.url, self.tries, self.wait_s)  # a worker process opens its own connections

    def shard(self, name: str) -> tuple[bytes, dict[str, tuple[int, int]], str]:
        """The bytes of a tar file, (offset, size) of each complete member, and the problem if there was one."""
        data, problem = b"", ""
        members: dict[str, tuple[int, int]] = {}
        for attempt in range(self.tries):
            if attempt:
                time.sleep(self.wait_s * 2 ** (attempt - 1))
            try:
                data = self._fs.cat_file(f"{self._root}/{name}")
            except (FileNotFoundError, PermissionError) as error:
                return b"", {}, _reason(error)
            except Exception as error:  # noqa: BLE001 - each storage library raises its own exceptions
                problem = f"{_reason(error)}, {self.tries} tries"
                continue
            members, problem = tar_members(data)
            if not problem:
                break
        return data, members, problem

    def manifest(self, columns: list[str]) -> Iterator[pd.DataFrame]:
        """Chunks of the rows of manifest.parquet, else of manifest.csv, as text; missing columns are empty.

        Raises UserError when there is neither, or when it cannot be read.
        """
        for name, read in (("manifest.parquet", _parquet_chunks), ("manifest.csv", _csv_chunks)):
            with self._manifest_errors(name):
                try:
                    file = self._file(f"{self._root}/{name}")
                except FileNotFoundError:
                    continue
                with file:
                    for chunk in read(file, columns):
                        yield pd.DataFrame(
                            {
                                name: chunk[name].fillna("").astype(str) if name in chunk else ""
                                for name in columns
                            },
                            index=chunk.index,
                        )
                return
        raise UserError(
            f"{self.url}: no manifest.parquet and no manifest.csv there; expected a corpus folder with a manifest and "
            "shards/, as `metavox corpus build` writes it"
        )

    def _file(self, path: str) -> Any:
        """Open a file. Over HTTP, a Parquet file is read whole, because not every server can serve it from its end, and
        a CSV is streamed in a single request instead of block by block."""
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
    """(offset, size) of each complete member, and the problem with the rest; empty if there is none."""
    members, problem = {}, ""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.isfile() and member.offset_data + member.size <= len(data):
                    members[member.name] = (member.offset_data, member.size)
                elif member.isfile():
                    problem = f"cut short after {len(data)} bytes"
    except tarfile.TarError as error:
        problem = f"cannot be read to its end as a tar file ({_reason(error)})"
    if not problem and not data.endswith(bytes(512)):
        problem = f"cut short after {len(data)} bytes"
    return members, problem


def _opened(url: str) -> tuple[Any, str]:
    protocol = fsspec.utils.get_protocol(url)
    options: dict[str, Any] = {}
    try:
        if protocol.startswith("http"):
            import aiohttp

            # By default, aiohttp allows five minutes for a file, even while data keeps arriving.
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
            f"{url}: {_reason(error)}; expected the path of a folder or a URL such as s3://bucket/folder or https://host/folder"
        ) from error


def _csv_chunks(file: Any, columns: list[str]) -> Iterator[pd.DataFrame]:
    yield from pd.read_csv(
        file, dtype=str, keep_default_na=False, chunksize=CHUNK_ROWS, usecols=lambda name: name in columns
    )


def _parquet_chunks(file: Any, columns: list[str]) -> Iterator[pd.DataFrame]:
    table = parquet.ParquetFile(file)
    present = [name for name in columns if name in table.schema_arrow.names]
    for batch in table.iter_batches(CHUNK_ROWS, columns=present):
        yield batch.to_pandas()


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())[:200]
