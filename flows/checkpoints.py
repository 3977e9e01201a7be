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

from flows.repro import unreachable

FOLDER = Path(".metavox/checkpoints")
EVERY_S = float(os.environ.get("METAVOX_CHECKPOINTS_EVERY_S", "30"))
Log = Callable[[str], None]


@contextmanager
def shared_checkpoints(
    project: Path, commit: str, stage: str, log: Log, every_s: float = EVERY_S
) -> Iterator[None]:
    """Download the checkpoints of an earlier attempt at this stage, and upload new ones while the block runs.

    Nothing happens without a DVC remote. A failed upload is logged and repeated; it does not stop the stage. Raises
    StageFailed if the remote cannot be reached at the start.
    """
    place = f"checkpoints/{commit}/{stage}"
    if not _has_remote(project):
        yield
        return
    try:
        _download(project, place, log)
    except Exception as error:
        raise unreachable(f"checkpoints: {_line(error)}") from error
    uploaded, told = _times(project / FOLDER), dict[str, int]()
    done = threading.Event()

    def upload_new() -> None:
        times = _times(project / FOLDER)
        for name in [name for name, time_ns in times.items() if uploaded.get(name) != time_ns]:
            try:
                _upload(project, place, name)
                uploaded[name] = times[name]
            except Exception as error:  # noqa: BLE001 - each kind of remote has errors of its own
                if told.get(name) != times[name]:
                    log(f"checkpoint {name} was not uploaded: {_line(error)}")
                told[name] = times[name]

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
    try:
        _delete(project, place)
    except Exception as error:  # noqa: BLE001 - as above; the stage has ended well
        log(f"the checkpoints on the remote were not deleted: {_line(error)}")


def _has_remote(project: Path) -> bool:
    with _repo(project) as repo:
        return bool(repo.config["core"].get("remote"))


def _remote(project: Path, place: str) -> tuple[Any, str]:
    """The file system of the default remote and the folder `place` on it.

    It is opened for each use: between two checkpoints, an idle connection may have been closed.
    """
    with _repo(project) as repo:
        remote = repo.cloud.get_remote()
        return remote.fs, remote.fs.join(remote.path, place)


def _repo(project: Path) -> Any:
    from dvc.repo import Repo

    return Repo(str(project))


def _upload(project: Path, place: str, name: str) -> None:
    fs, folder = _remote(project, place)
    fs.makedirs(folder, exist_ok=True)
    fs.put_file(str(project / FOLDER / name), fs.join(folder, f"{name}.partial"))
    fs.mv(fs.join(folder, f"{name}.partial"), fs.join(folder, name))


def _download(project: Path, place: str, log: Log) -> None:
    fs, folder = _remote(project, place)
    if not fs.exists(folder):
        return
    (project / FOLDER).mkdir(parents=True, exist_ok=True)
    for path in fs.ls(folder, detail=False):
        name = fs.name(path)
        if name.endswith(".safetensors"):
            aside = project / FOLDER / f"{name}.download"
            fs.get_file(path, str(aside))
            aside.replace(project / FOLDER / name)
            log(f"checkpoint {name} of an earlier attempt was downloaded")


def _delete(project: Path, place: str) -> None:
    fs, folder = _remote(project, place)
    if fs.exists(folder):
        fs.remove(folder, recursive=True)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _times(folder: Path) -> dict[str, int]:
    """The checkpoints here and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
