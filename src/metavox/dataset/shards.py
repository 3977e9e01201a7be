"""Deterministic tar shards, and the digest that DVC computes for a folder."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

SHARD_BYTES = 64_000_000


def write_shards(
    folder: Path, name: str, files: Iterable[tuple[str, bytes]], first: int = 0
) -> dict[str, str]:
    """Write (member name, bytes) in order to NAME-000.tar, NAME-001.tar, ... of at most SHARD_BYTES each.

    `first` is the number of the first shard. A file larger than SHARD_BYTES gets a shard of its own. Without times and
    owners, the same files give the same bytes. Returns member name -> path into the tar, relative to `folder`'s parent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: dict[str, str] = {}
    shard, size, archive = first - 1, 0, None
    try:
        for member, data in files:
            member_size = len(data) + 4096  # header, padding, and the end of the archive
            if archive is None or size + member_size > SHARD_BYTES:
                if archive is not None:
                    archive.close()
                shard, size = shard + 1, 0
                path = folder / f"{name}-{shard:03d}.tar"
                archive = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
            size += member_size
            paths[member] = f"{folder.name}/{name}-{shard:03d}.tar/{member}"
    finally:
        if archive is not None:
            archive.close()
    return paths


def dvc_digest(folder: Path) -> str:
    """The `md5` that `dvc add FOLDER` records for a folder, ending in `.dir`."""
    return folder_digest(file_digests(folder))


def file_digests(folder: Path, paths: Iterable[Path] | None = None) -> dict[str, str]:
    """Path within the folder -> MD5, for all files in it or for `paths` only."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()) if paths is None else paths:
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        digests[path.relative_to(folder).as_posix()] = md5
    return digests


def folder_digest(digests: dict[str, str]) -> str:
    """The digest of a folder from the digests of its files, as DVC computes it."""
    listing = json.dumps(
        [{"md5": md5, "relpath": path} for path, md5 in sorted(digests.items())], sort_keys=True
    )
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"
