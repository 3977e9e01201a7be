"""Versions of the corpus: the only place of the package that calls DVC.

`dvc add` runs as a process of its own, which leaves no lock behind however it ends. One file of an older version
is read through DVC's API instead: that fetches this file alone, and changes nothing in the checkout.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from metavox.dataset.manifest import read_manifest
from metavox.errors import UserError
from metavox.telemetry import disable_telemetry

WORKSPACE = "workspace"
POINTER, TRACKED = "data.dvc", "data/manifest.csv"


def dvc_add(folder: Path) -> str:
    """Put `folder` into DVC's cache and write FOLDER.dvc beside it; returns its digest, `....dir`.

    Raises UserError when DVC is not installed, `folder` is in no DVC project, another DVC command holds the
    project's lock, or DVC refuses for a reason of its own.
    """
    _need_dvc()
    project = _project(folder)
    disable_telemetry()
    command = [sys.executable, "-m", "dvc", "add", str(folder.resolve())]
    done = subprocess.run(
        command, cwd=project, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        raise UserError(f"dvc add {folder}: {_reason(done.stdout + done.stderr)}")
    return pinned(folder)


def pinned(folder: Path) -> str:
    """The digest in FOLDER.dvc, "" where there is no such file."""
    pointer = folder.with_name(f"{folder.name}.dvc")
    if not pointer.is_file():
        return ""
    about = yaml.safe_load(pointer.read_text(encoding="utf-8"))
    return str(about["outs"][0]["md5"])


def manifest_of(version: str, root: Path) -> pd.DataFrame:
    """The manifest of a version of the corpus.

    `version` is `workspace` (ROOT/data as it lies there), the path of a folder with a manifest.csv or of a
    manifest, or a git revision (tag, branch, commit, HEAD~1) of the project at `root`: then
    data/manifest.csv of that revision's data.dvc comes from DVC's cache, or else from its remote.
    Raises UserError where there is none.
    """
    if version == WORKSPACE:
        return read_manifest(root / TRACKED)
    if Path(version).is_dir():
        return read_manifest(Path(version) / "manifest.csv")
    if Path(version).is_file():
        return read_manifest(version)
    if Path(version).suffix in (".csv", ".parquet"):
        return read_manifest(version)  # which says that it is not there
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "manifest.csv"
        copy.write_bytes(_fetch(version, root))
        try:
            return read_manifest(copy)
        except UserError as error:
            raise UserError(str(error).replace(str(copy), f"{TRACKED} at {version}")) from error


def _fetch(revision: str, root: Path) -> bytes:
    _need_dvc()
    project = _project(root)
    disable_telemetry()
    import dvc.api
    from dvc.exceptions import DvcException, FileMissingError, NotDvcRepoError, PathMissingError
    from dvc.scm import SCM, RevError, SCMError
    from dvc_data.index import DataIndexDirError

    place = f"{TRACKED} at {revision}"
    try:
        inside = project.relative_to(SCM(str(project)).root_dir)  # a revision's paths start where git's do

        def read(path: str) -> bytes:
            where = (inside / path).as_posix()
            with dvc.api.open(where, repo=str(project), rev=revision, mode="rb") as file:
                return bytes(file.read())

        read(POINTER)
    except RevError as error:
        raise UserError(
            f"{revision}: no git revision of {project}, and no folder or manifest that is there; "
            f"expected a tag, a commit, HEAD~1, {WORKSPACE} or a path"
        ) from error
    except (NotDvcRepoError, SCMError) as error:
        raise UserError(f"{place}: {_line(error)}; expected a project with git and DVC") from error
    except (DvcException, OSError) as error:
        raise UserError(
            f"{place}: that revision has no {POINTER}; expected one where the corpus was added"
        ) from error
    try:
        return read(TRACKED)
    except Exception as error:
        absent = isinstance(error, FileMissingError | PathMissingError | DataIndexDirError)
        why = "" if absent else f" ({_line(error)})"
        raise UserError(
            f"{place}: neither in DVC's cache nor in its remote{why}; where this version is, run `dvc push`, "
            "then try again"
        ) from error


def _need_dvc() -> None:
    if importlib.util.find_spec("dvc") is None:
        raise UserError("DVC is not installed here; run: make setup")


def _project(folder: Path) -> Path:
    """The DVC project that `folder` is in: the nearest folder above it with a .dvc/ in it."""
    place = folder.resolve()
    for parent in (place, *place.parents):
        if (parent / ".dvc").is_dir():
            return parent
    raise UserError(f"{folder}: in no DVC project; run `git init && dvc init` in the folder above it first")


def _reason(output: str) -> str:
    """The one line of DVC's output that says what went wrong."""
    if "Unable to acquire lock" in output or "is busy, it is being blocked by" in output:
        return "another DVC command is at work here; wait for it to end, then run the same command again"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["ended without a word"])[-1]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
