"""Checkpoints of training on the DVC remote, so that a run continues on another machine when its worker dies.

Checkpoints are no results: DVC does not track them. They lie beside DVC's files under `checkpoints/COMMIT/` and are
deleted when the stage has ended. A checkpoint names the parameters, inputs and code of its training; one that does not
fit is not resumed.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(".metavox/checkpoints")
EVERY_S = float(os.environ.get("METAVOX_CHECKPOINTS_EVERY_S", "30"))
Log = Callable[[str], None]


@contextmanager
def shared_checkpoints(
    project: Path, commit: str, stage: str, log: Log, every_s: float = EVERY_S
) -> Iterator[None]:
    """Download the checkpoints of an earlier attempt at this stage, and upload new ones while the block runs.

    Nothing happens without a DVC remote. A failed upload is logged, and does not stop the stage.
    """
    fs, place = _remote(project, f"checkpoints/{commit}/{stage}")
    if fs is None:
        yield
        return
    _download(fs, place, project / FOLDER, log)
    uploaded = _times(project / FOLDER)
    done = threading.Event()

    def upload_new() -> None:
        for name, time_ns in _times(project / FOLDER).items():
            if uploaded.get(name) == time_ns:
                continue
            try:
                fs.makedirs(place, exist_ok=True)
                fs.put_file(str(project / FOLDER / name), fs.join(place, f"{name}.partial"))
                fs.mv(fs.join(place, f"{name}.partial"), fs.join(place, name))
            except Exception as error:  # noqa: BLE001 - each kind of remote has errors of its own
                log(f"checkpoint {name} was not uploaded: {' '.join(str(error).split())}")
            uploaded[name] = time_ns

    def work() -> None:
        while not done.wait(every_s):
            upload_new()

    uploader = threading.Thread(target=work, daemon=True)
    uploader.start()
    try:
        yield
    except BaseException:
        done.set()
        uploader.join()
        upload_new()  # the next attempt may run elsewhere
        raise
    done.set()
    uploader.join()
    if fs.exists(place):
        fs.remove(place, recursive=True)


def _remote(project: Path, folder: str) -> tuple[Any, str]:
    """The file system of the default remote and a folder on it; None without a remote."""
    from dvc.config import NoRemoteError
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        try:
            odb = repo.cloud.get_remote_odb()
        except NoRemoteError:
            return None, ""
        return odb.fs, odb.fs.join(odb.fs.parent(odb.fs.parent(odb.path)), folder)


def _download(fs: Any, place: str, folder: Path, log: Log) -> None:
    if not fs.exists(place):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path in fs.ls(place, detail=False):
        name = fs.name(path)
        if name.endswith(".safetensors"):
            aside = folder / f"{name}.download"
            fs.get_file(path, str(aside))
            aside.replace(folder / name)
            log(f"checkpoint {name} of an earlier attempt was downloaded")


def _times(folder: Path) -> dict[str, int]:
    """The checkpoints here and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
