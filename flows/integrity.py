"""Check outputs that came from DVC's cache: DVC trusts a cached file by its name and does not read it again."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from flows.project import Stage
from metavox.promotion.dvc_cache import cached_file

CHUNK = 1 << 20


def remove_damaged(project: Path, stage: Stage) -> list[str]:
    """Delete each output of the stage whose bytes are not those that dvc.lock names, together with its copy in the cache.

    Returns one line about each. The stage is then out of date, and its results are downloaded or made again.
    """
    lines = []
    for out in _locked_outs(project, stage.name):
        path, digest = project / out["path"], str(out["md5"])
        if not path.exists():
            continue
        damaged = [file for file, expected in _files(project, path, digest) if _md5(file) != expected]
        if not damaged:
            continue
        for file, expected in _files(project, path, digest):
            if file in damaged:
                cached_file(project, expected).unlink(missing_ok=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        name = damaged[0].relative_to(project)
        lines.append(f"{name}: its copy in DVC's cache is damaged; it was deleted, and the stage runs again")
    return lines


def _locked_outs(project: Path, stage: str) -> list[dict[str, Any]]:
    lock = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))
    outs: list[dict[str, Any]] = lock["stages"][stage].get("outs", [])
    return outs


def _files(project: Path, path: Path, digest: str) -> Iterator[tuple[Path, str]]:
    """Each file of an output, with the digest that it should have."""
    if not digest.endswith(".dir"):
        yield path, digest
        return
    for entry in json.loads(cached_file(project, digest).read_text(encoding="utf-8")):
        file = path / entry["relpath"]
        if file.is_file():
            yield file, entry["md5"]


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
