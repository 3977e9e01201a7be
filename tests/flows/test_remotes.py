"""DVC remotes over SSH and S3: two clones that have nothing else in common exchange results and checkpoints."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from remotes import S3, SSHD, OpenSsh, Server, Ssh
from small_project import Project, until

from flows.checkpoints import FOLDER, _remote, shared_checkpoints
from flows.lock import only_writer
from flows.project import Stage, read_stages
from flows.repro import Checkout, StageFailed, fetch_results, push_results, reproduce

COMMIT = "c0ffee"
CHECKPOINT = FOLDER / "train.safetensors"
SSH = OpenSsh if SSHD else Ssh


@dataclass(frozen=True)
class Clone:
    """A clone of the project, as its flows see it."""

    project: Project
    checkout: Checkout

    @property
    def stage(self) -> Stage:
        return read_stages(self.project.folder)[0]

    def run(self) -> str:
        return reproduce(self.checkout, self.stage, print, pull=True)

    def lock(self) -> str:
        return (self.project.folder / "dvc.lock").read_text()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(text)
    aside.replace(path)


def reader(project: Path) -> Callable[[], str | None]:
    """Reads the checkpoint on the remote, or None, over one connection."""
    fs, folder = _remote(project, f"checkpoints/{COMMIT}/train")
    path = fs.join(folder, CHECKPOINT.name)

    def read() -> str | None:
        fs.fs.invalidate_cache()  # s3fs remembers what it has listed
        # In one request: the file may be replaced at any time.
        return fs.cat_file(path).decode() if fs.exists(path) else None

    return read


def do(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one stage with two outputs, a file and a folder. Its corpus is the file `data`."""
    project = Project(tmp_path_factory.mktemp("origin"))
    project.write(
        train={
            "cmd": "mkdir model; cp data model/w; wc -c data > size",
            "deps": ["data"],
            "outs": ["model", "size"],
        }
    )
    (project.folder / "data").write_text("one\n")
    do(project.folder, "git", "init", "--quiet")
    (project.folder / ".dvc").mkdir()
    (project.folder / ".dvc" / "config").touch()
    do(project.folder, sys.executable, "-m", "dvc", "add", "--quiet", "data")
    return project.folder


@pytest.fixture(scope="module", params=[SSH, S3], ids=lambda server: server.__name__)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    quick = pytest.MonkeyPatch()
    quick.setenv("AWS_MAX_ATTEMPTS", "1")  # otherwise it takes half a minute to give up
    # Not one of pytest's folders, which only the user of the tests can enter.
    folder = Path(tempfile.mkdtemp(prefix="metavox-remote-"))
    server: Server = request.param(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
        quick.undo()


@pytest.fixture
def clones(tmp_path: Path, origin: Path, server: Server) -> Iterator[tuple[Clone, Clone]]:
    """A clone that has the corpus, and one that has what git has."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(origin, first)
    config = "".join(f"    {line}\n" for line in server.config().splitlines())
    (first / ".dvc" / "config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n{config}")
    (first / ".gitignore").write_text("/data\n/runs\n/.metavox\n")
    (first / ".dvc" / ".gitignore").write_text("/cache\n/tmp\n")
    do(first, "git", "add", "-A")
    do(first, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x")
    do(tmp_path, "git", "clone", "--quiet", str(first), str(second))
    with cloned(first) as one, cloned(second) as other:
        yield one, other


@contextmanager
def cloned(folder: Path) -> Iterator[Clone]:
    with only_writer(folder, "test", 1, print) as lock:
        yield Clone(Project(folder), Checkout(folder, lock))


def test_a_result_of_one_clone_is_restored_in_another(server: Server, clones: tuple[Clone, Clone]) -> None:
    first, second = clones
    assert first.run() == "ran"

    server.stop()
    with pytest.raises(StageFailed, match="remote unreachable: dvc push: ") as caught:
        push_results(first.checkout)
    assert "\n" not in str(caught.value)
    with pytest.raises(StageFailed, match="remote unreachable: dvc fetch: ") as caught:
        fetch_results(second.checkout)
    assert "\n" not in str(caught.value)
    server.start()
    push_results(first.checkout)

    fetch_results(second.checkout)
    assert second.run() == "from cache"
    assert second.project.runs() == []
    assert first.project.runs() == ["train"]
    assert second.lock() == first.lock()
    assert (second.project.folder / "model" / "w").read_text() == "one\n"


def test_checkpoints_go_to_the_next_clone_and_are_deleted_in_the_end(clones: tuple[Clone, Clone]) -> None:
    first, second = (clone.project.folder for clone in clones)
    uploaded = reader(second)
    with pytest.raises(KeyboardInterrupt), shared_checkpoints(first, COMMIT, "train", print, 0.05):
        write(first / CHECKPOINT, "step 1")
        until(lambda: uploaded() == "step 1", "the first checkpoint on the remote")
        write(first / CHECKPOINT, "step 2")
        until(lambda: uploaded() == "step 2", "the second in its place")
        write(first / CHECKPOINT, "step 3")
        raise KeyboardInterrupt
    with shared_checkpoints(second, COMMIT, "train", print):
        assert (second / CHECKPOINT).read_text() == "step 3"
    assert uploaded() is None


@pytest.mark.parametrize("server", [SSH], indirect=True)
def test_checkpoints_of_the_time_without_a_remote_are_made_up_for(
    server: Server, clones: tuple[Clone, Clone]
) -> None:
    first, second = (clone.project.folder for clone in clones)
    lines: list[str] = []
    uploaded = reader(second)
    with shared_checkpoints(first, COMMIT, "train", lines.append, 0.05):
        write(first / CHECKPOINT, "step 1")
        until(lambda: uploaded() == "step 1", "the first checkpoint on the remote")
        server.stop()
        write(first / CHECKPOINT, "step 2")
        until(lambda: len(lines) > 0, "the line that says that it was not uploaded")
        with pytest.raises(StageFailed, match="remote unreachable: checkpoints: ") as caught:
            shared_checkpoints(second, COMMIT, "train", print).__enter__()
        assert "\n" not in str(caught.value)
        server.start()
        uploaded = reader(second)
        until(lambda: uploaded() == "step 2", "the second checkpoint on the remote")
    (line,) = lines
    assert line.startswith("checkpoint train.safetensors was not uploaded: ")
