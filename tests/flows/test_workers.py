"""Stages on the workers of other machines: real workers in clones of their own, with the DVC remote alone in common."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from clones import Site, kill, server
from prefect.settings import PREFECT_API_URL, temporary_settings
from small_project import Project, until

from flows.deploy import SILENT_FOR, deploy

SOON = timedelta(seconds=40)  # a heartbeat comes every 30 s
# A training that saves a checkpoint at its second step and goes on from there.
TRAIN = (
    "mkdir -p .metavox/checkpoints; c=.metavox/checkpoints/train.safetensors; "
    "if [ -e $c ]; then echo resumed from $(cat $c); else echo step 2 > $c; echo waiting; "
    "until [ -e go ]; do sleep 0.05; done; fi; cat prepared $c > model"
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture
def site(tmp_path: Path, url: str) -> Iterator[Site]:
    site = Site(tmp_path, url)
    yield site
    site.stop()


def chain(
    site: Site, train: str = "cp prepared model", silent_for: timedelta = SILENT_FOR, **meta: object
) -> Project:
    """prepare on the orchestrator -> train on a GPU -> package on the orchestrator, deployed."""
    project = site.create(
        prepare={"cmd": "cp data prepared", "deps": ["data"], "outs": ["prepared"]},
        train={
            "cmd": train,
            "deps": ["prepared"],
            "outs": ["model"],
            "meta": {"pool": "gpu", "retry_delay_s": 1, **meta},
        },
        package={"cmd": "cat model > bundle", "deps": ["model"], "outs": ["bundle"]},
    )
    with temporary_settings({PREFECT_API_URL: site.url}):
        deploy(project.folder, silent_for=silent_for)
    return project


def test_a_worker_trains_and_the_orchestrator_takes_its_result(site: Site) -> None:
    project = chain(site)
    gpu = site.clone("gpu")
    site.worker(gpu)
    run = site.pipeline()
    assert run.wait() == 0, run.text()
    assert "prepare ran; train from cache; package ran" in run.message()
    assert project.runs() == ["prepare", "package"]
    assert gpu.runs() == ["train"], "what the orchestrator had prepared came from the remote"
    assert (project.folder / "bundle").read_text() == "one\n"
    lock = (project.folder / "dvc.lock").read_text()

    site.commit(project.folder)
    again = site.pipeline(name="again")
    assert again.wait() == 0
    assert (project.folder / "dvc.lock").read_text() == lock
    assert gpu.runs() == ["train"]

    (project.folder / "dvc.yaml").write_text(
        (project.folder / "dvc.yaml").read_text().replace("cp prepared", "cat prepared >")
    )
    refused = site.pipeline(name="refused")
    assert refused.wait() == 2
    assert "dvc.yaml: changed since commit" in refused.message()
    site.commit(project.folder)
    changed = site.pipeline(name="changed")
    assert changed.wait() == 0, changed.text()
    assert gpu.runs() == ["train", "train"], "the worker's clone went to the new commit by itself"


def test_a_killed_worker_is_replaced_by_another_which_resumes_from_its_checkpoint(site: Site) -> None:
    project = chain(site, TRAIN, SOON)
    clones = [site.clone(name) for name in ("gpu1", "gpu2")]
    workers = [site.worker(clone) for clone in clones]
    environment = {"METAVOX_CHECKPOINTS_EVERY_S": "0.2"}
    run = site.pipeline(**environment)
    until(lambda: any(clone.runs() for clone in clones), "a worker to start the stage")
    first = next(i for i, clone in enumerate(clones) if clone.runs())
    until(
        lambda: list(site.remote.glob("checkpoints/*/train/train.safetensors")) != [],
        "the checkpoint on the remote",
    )
    kill(workers[first])
    shutil.rmtree(clones[first].folder)
    assert run.wait() == 0, run.text()
    assert "its worker died" in run.text()
    assert clones[1 - first].runs() == ["train"]
    assert (project.folder / "bundle").read_text() == "one\nstep 2\n"
    assert project.runs() == ["prepare", "package"]
    assert site.runs("RUNNING", "PENDING", "SCHEDULED", "CANCELLING") == []
    assert not list(site.remote.glob("checkpoints/*/train"))


def test_a_pool_without_a_worker_is_one_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    chain(site, retries=0)
    run = site.pipeline("--worker-wait", "1")
    assert run.wait() == 1
    assert "train: no worker of pool gpu is online; start one with `make worker POOL=gpu`" in run.message()
    assert site.runs("RUNNING", "PENDING", "SCHEDULED") == []


def test_an_unreachable_remote_is_named_and_its_uploads_are_made_up_for(site: Site) -> None:
    project = chain(site, retries=1)
    gpu = site.clone("gpu")
    site.worker(gpu)
    away = site.remote.with_name("away")
    site.remote.rename(away)
    site.remote.write_text("a file: no folder can be made here")
    run = site.pipeline()
    assert run.wait() == 1
    assert "remote unreachable: dvc push" in run.message()
    assert gpu.runs() == []
    site.remote.unlink()
    away.rename(site.remote)
    run = site.pipeline(name="back")
    assert run.wait() == 0, run.text()
    assert gpu.runs() == ["train"]
    assert project.runs() == ["prepare", "package"], "nothing was computed twice"


def test_a_run_that_was_killed_after_it_wrote_outputs_does_not_block_the_next(site: Site) -> None:
    project = chain(site, retries=0)
    gpu = site.clone("gpu")
    site.worker(gpu)
    (project.folder / "prepared").write_text("half\n")
    (project.folder / "model").write_text("half\n")
    (gpu.folder / "model").write_text("half\n")
    run = site.pipeline()
    assert run.wait() == 0, run.text()
    assert (project.folder / "bundle").read_text() == "one\n"
