"""Versions of the corpus: the only module of the package that calls DVC.

`dvc add` runs in its own process, which leaves no lock behind however it ends. A file of an older version is read
through DVC's API, which downloads only this file and changes nothing in the checkout.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from metavox.errors import UserError
from metavox.telemetry import disable_telemetry

if TYPE_CHECKING:
    import pandas as pd

WORKSPACE = "workspace"
POINTER, TRACKED = "data.dvc", "data/manifest.csv"


def dvc_add(folder: Path) -> str:
    """Add `folder` to DVC's cache and write FOLDER.dvc beside it; returns its digest, which ends in `.dir`.

    Raises UserError if DVC is not installed, `folder` is not in a DVC project, another DVC command holds the
    project's lock, or DVC fails for another reason.
    """
    _require_dvc()
    project = _project(folder)
    disable_telemetry()
    command = [sys.executable, "-m", "dvc", "add", str(folder.resolve())]
    done = subprocess.run(
        command, cwd=project, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        raise UserError(f"dvc add {folder}: {_error_line(done.stdout + done.stderr)}")
    return pinned(folder)


def pinned(folder: Path) -> str:
    """The digest in FOLDER.dvc; empty if there is no such file."""
    pointer = folder.with_name(f"{folder.name}.dvc")
    if not pointer.is_file():
        return ""
    return str(yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"])


def manifest_of(version: str, root: Path) -> "pd.DataFrame":
    """The manifest of a version of the corpus.

    `version` is `workspace` (ROOT/data as it is now), the path of a folder with a manifest.csv or of a manifest, or
    a git revision (tag, branch, commit, HEAD~1) of the project at `root`: then data/manifest.csv of that
    revision's data.dvc comes from DVC's cache, or else from its remote. Raises UserError if there is none.
    """
    from metavox.dataset.manifest import read_manifest

    if version == WORKSPACE:
        return read_manifest(root / TRACKED)
    if Path(version).is_dir():
        return read_manifest(Path(version) / "manifest.csv")
    if Path(version).is_file():
        return read_manifest(version)
    if Path(version).suffix in (".csv", ".parquet"):
        return read_manifest(version)  # raises the error for a missing file
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "manifest.csv"
        copy.write_bytes(_fetch(version, root))
        try:
            return read_manifest(copy)
        except UserError as error:
            raise UserError(str(error).replace(str(copy), f"{TRACKED} at {version}")) from error


def _fetch(revision: str, root: Path) -> bytes:
    _require_dvc()
    project = _project(root)
    disable_telemetry()
    import dvc.api
    from dvc.exceptions import DvcException, FileMissingError, NotDvcRepoError, PathMissingError
    from dvc.scm import SCM, RevError, SCMError
    from dvc_data.index import DataIndexDirError

    name = f"{TRACKED} at {revision}"
    try:
        subfolder = project.relative_to(SCM(str(project)).root_dir)  # paths in a revision start at git's root

        def read(path: str) -> bytes:
            path_in_git = (subfolder / path).as_posix()
            with dvc.api.open(path_in_git, repo=str(project), rev=revision, mode="rb") as file:
                return bytes(file.read())

        read(POINTER)
    except RevError as error:
        raise UserError(
            f"{revision}: neither a git revision of {project} nor an existing folder or manifest; "
            f"expected a tag, a commit, HEAD~1, {WORKSPACE} or a path"
        ) from error
    except (NotDvcRepoError, SCMError) as error:
        raise UserError(f"{name}: {_one_line(error)}; expected a project with git and DVC") from error
    except (DvcException, OSError) as error:
        raise UserError(
            f"{name}: that revision has no {POINTER}; expected one in which the corpus is pinned"
        ) from error
    try:
        return read(TRACKED)
    except Exception as error:
        absent = isinstance(error, FileMissingError | PathMissingError | DataIndexDirError)
        details = "" if absent else f" ({_one_line(error)})"
        raise UserError(
            f"{name}: neither in DVC's cache nor in its remote{details}; run `dvc push` on a machine that has it, "
            "then try again"
        ) from error


def _require_dvc() -> None:
    if importlib.util.find_spec("dvc") is None:
        raise UserError("DVC is not installed; run make setup")


def _project(folder: Path) -> Path:
    """The DVC project that holds `folder`: the nearest folder above it with a .dvc/. Raises UserError if none has."""
    path = folder.resolve()
    for parent in (path, *path.parents):
        if (parent / ".dvc").is_dir():
            return parent
    raise UserError(
        f"{folder}: not in a DVC project; first run `git init && dvc init` in the folder above it"
    )


def _error_line(output: str) -> str:
    """The line of DVC's output that states the error."""
    if "Unable to acquire lock" in output or "is busy, it is being blocked by" in output:
        return "another DVC command is running; wait for it to end, then run the same command again"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["ended without a message"])[-1]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
