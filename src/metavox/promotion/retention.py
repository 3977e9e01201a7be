"""Retention: delete the files of old versions from DVC's cache and remote, never those that are in use."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from metavox.promotion import versions
from metavox.promotion.dvc_cache import cached_file
from metavox.promotion.versions import NAME, POINTERS, Version

DIGEST = re.compile(r"md5: ([0-9a-f]{32}(?:\.dir)?)")


@dataclass(frozen=True)
class Pruned:
    """What was deleted, or would be: versions, files, and their bytes in the cache."""

    versions: tuple[str, ...]
    files: int
    bytes: int


def prune(project: Path, keep: int, remote: bool = False, dry_run: bool = False) -> Pruned:
    """Delete the files of all versions but the newest `keep`, the champion and the one before it.

    A file is in use, and stays, if a .dvc file or dvc.lock names it in the checkout, on a branch, or in a tag that is not
    one of the deleted versions. The versions themselves, their records and figures remain in git. With `remote`, the files
    are deleted from DVC's default remote too.
    """
    known = versions.versions(project)
    kept = {version.name for version in known[:keep]}
    kept |= {v.name for v in (versions.champion(project), versions.previous(project)) if v}
    old = [version for version in known if version.name not in kept]
    in_use = _in_use(project, [v.commit for v in known if v.name in kept], {v.commit for v in old})
    doomed = {digest for version in old for digest in _files(project, [_pointer(project, version)])} - in_use
    present = {digest: path for digest in doomed if (path := cached_file(project, digest)).is_file()}
    total = sum(path.stat().st_size for path in present.values())
    if not dry_run:
        for path in present.values():
            path.unlink()
        if remote:
            _remove_from_remote(project, doomed)
    return Pruned(tuple(v.name for v in old), len(present), total)


def _pointer(project: Path, version: Version) -> str:
    return versions.git(project, "show", f"{version.commit}:{POINTERS[0]}")


def _in_use(project: Path, kept: Iterable[str], old: set[str]) -> set[str]:
    refs = versions.git(
        project, "for-each-ref", "--format=%(objectname)%(*objectname) %(refname:short)"
    ).splitlines()
    commits = {*kept, versions.head(project)}
    for line in refs:
        ids, _, name = line.partition(" ")
        commit = ids[-40:]
        if not (name.startswith(NAME) and commit in old):
            commits.add(commit)
    texts = [
        path.read_text(encoding="utf-8")
        for path in (*project.glob("*.dvc"), project / "dvc.lock")
        if path.is_file()
    ]
    for commit in commits:
        names = versions.git(project, "ls-tree", "-r", "--name-only", commit).splitlines()
        texts += [
            versions.git(project, "show", f"{commit}:{name}")
            for name in names
            if name.endswith(".dvc") or Path(name).name == "dvc.lock"
        ]
    return _files(project, texts)


def _files(project: Path, texts: Iterable[str]) -> set[str]:
    """The digests that .dvc files and lock files name, and those of the files in folders that they name."""
    found = {digest for text in texts for digest in DIGEST.findall(text)}
    for digest in [digest for digest in found if digest.endswith(".dir")]:
        listing = cached_file(project, digest)
        if listing.is_file():
            found |= {entry["md5"] for entry in json.loads(listing.read_text(encoding="utf-8"))}
    return found


def _remove_from_remote(project: Path, digests: Iterable[str]) -> None:
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        odb = repo.cloud.get_remote_odb()
        for digest in digests:
            path = odb.oid_to_path(digest)
            if odb.fs.exists(path):
                odb.fs.remove(path)
