"""The search: real Optuna, real experiments of DVC in a small git repository, a real Prefect server."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from clones import Site
from prefect.client.orchestration import get_client
from small_project import Command, Project, until

from flows.search import plan_search, search
from metavox.errors import UserError

LOSS = "metrics.json:loss"
# The loss is lowest at 7 steps. More than 100 are refused. With MEET, the trials after the first wait for each other;
# with HOLD, they wait for a file.
LEARN = """
import json, os, pathlib, sys, time, yaml
steps = yaml.safe_load(open("params.yaml"))["adapt"]["steps"]
with open(os.environ["RUNS"], "a") as runs:
    print(steps, os.getpid(), file=runs)
started = len(open(os.environ["RUNS"]).read().splitlines())
if steps > 100:
    sys.exit("metavox: %d steps are too many" % steps)
def wait(ready, limit_s):
    end = time.monotonic() + limit_s
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)
first = started == 2  # after the line of the stage before it
if "MEET" in os.environ and not first:
    pathlib.Path(os.environ["MEET"], str(os.getpid())).touch()
    wait(lambda: len(os.listdir(os.environ["MEET"])) > 1, 60)
if "HOLD" in os.environ and not first:
    wait(pathlib.Path(os.environ["HOLD"]).exists, 600)
json.dump({"loss": (steps - 7) ** 2, "of": "steps"}, open("metrics.json", "w"))
"""
STAGES: dict[str, Any] = {
    "prepare": {"cmd": "echo prepare >> $RUNS; cp data prepared", "deps": ["data"], "outs": ["prepared"]},
    "learn": {
        "cmd": f"{sys.executable} learn.py",
        "deps": ["prepared", "learn.py"],
        "params": ["adapt.steps"],
        "metrics": ["metrics.json"],
    },
}
JUDGE = {
    "cmd": "cp metrics.json judged.json",
    "deps": ["metrics.json"],
    "metrics": ["judged.json"],
    "meta": {"test_speakers": True},
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed project with `adapt.steps` at 20."""
    folder = tmp_path_factory.mktemp("template")
    site = Site(folder, "")
    project = Project(site.origin)
    project.folder.mkdir()
    for name, text in {
        "dvc.yaml": json.dumps({"stages": STAGES}),
        "params.yaml": "adapt:\n  steps: 20  # few\n  shots: 5\n",
        "learn.py": LEARN,
        "data": "one\n",
        ".gitignore": "/.metavox\n/space.yaml\n/prepared\n/metrics.json\n",
    }.items():
        (project.folder / name).write_text(text)
    for command in (("git", "init", "--quiet"), ("dvc", "init", "--quiet")):
        site.do(project.folder, *command)
    site.commit(project.folder)
    return project.folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    return Project(folder)


def space(project: Project, text: str) -> str:
    path = project.folder / "space.yaml"
    path.write_text(text)
    return str(path)


def runs(project: Project) -> list[str]:
    """What each run of a stage wrote, without its process."""
    return [line.split()[0] for line in (project.folder.parent / "runs").read_text().splitlines()]


def do(project: Project, *command: str) -> str:
    arguments = command if command[0] == "git" else (sys.executable, "-m", *command)
    done = subprocess.run(arguments, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def experiments(project: Project) -> dict[str, tuple[int, float]]:
    """The steps and the loss of each experiment of the checkout's commit, as DVC shows them."""
    (head,) = (each for each in json.loads(do(project, "dvc", "exp", "show", "--json")) if each["name"])
    found = {}
    for experiment in head["experiments"] or ():
        data = experiment["revs"][0]["data"]
        steps = data["params"]["params.yaml"]["data"]["adapt"]["steps"]
        found[experiment["name"]] = steps, data["metrics"]["metrics.json"]["data"]["loss"]
    return found


def test_trials_become_experiments_two_at_a_time_and_the_best_is_named(
    project: Project, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meet").mkdir()
    monkeypatch.setenv("MEET", str(tmp_path / "meet"))
    before = do(project, "git", "status", "--porcelain", "--branch")
    choices = space(project, "adapt.steps: [5, 8, 20, 1000]\n")
    options: dict[str, Any] = {"project": str(project.folder), "name": "small", "seed": 0}
    found = search(choices, LOSS, trials=5, parallel=2, **options)
    assert runs(project).count("prepare") == 1
    assert runs(project)[1] == "20", "what params.yaml says is tried first"
    table = pd.read_csv(project.folder / ".metavox/search/small/trials.csv")
    assert len(table) == 5
    failed = table[table["state"] == "fail"]
    assert set(failed["adapt.steps"]) == {1000}
    assert set(failed["failed"]) == {"learn: 1000 steps are too many"}
    assert (found["trials"], found["failed"]) == (5 - len(failed), len(failed))
    assert (found["value"], found["values"]) == (1.0, {"adapt.steps": 8})

    shown = experiments(project)
    done = table[table["state"] == "complete"].set_index("experiment")
    assert shown == {name: (row["adapt.steps"], row["value"]) for name, row in done.iterrows()}
    assert do(project, "git", "status", "--porcelain", "--branch") == before
    assert not (project.folder / ".metavox/search/small/clones").exists()
    with get_client(sync_client=True) as client:
        artifact = client.request("POST", "/artifacts/latest/filter", json={}).json()
    (rows,) = (json.loads(each["data"]) for each in artifact if each["key"] == "trials")
    assert rows[0] | {"value": 1.0, "adapt.steps": 8} == rows[0]

    repeated = len(runs(project))
    assert search(choices, LOSS, trials=5, parallel=2, **options) == found
    assert len(runs(project)) == repeated, "five trials have ended, so none is added"
    with pytest.raises(UserError, match="small: holds a study of another space"):
        search(space(project, "adapt.steps: {low: 1, high: 9}\n"), LOSS, **options)

    do(project, "dvc", "exp", "apply", found["best"])
    assert "  steps: 8 " in (project.folder / "params.yaml").read_text()
    assert json.loads((project.folder / "metrics.json").read_text())["loss"] == 1


Start = Callable[..., Command]


@pytest.fixture
def command(project: Project, server: str, tmp_path: Path) -> Any:
    site = Site(tmp_path, server)

    def start(name: str, *more: str) -> Command:
        hold = {"RUNS": os.environ["RUNS"], "HOLD": str(tmp_path / "go")}
        options = ("--metric", LOSS, "--trials", "2", "--parallel", "2", "--project", str(project.folder))
        return site.start(
            name,
            Path(__file__).parents[2],
            "flows.search",
            str(project.folder / "space.yaml"),
            *options,
            *more,
            **hold,
        )

    yield start
    site.stop()


def test_a_stopped_search_goes_on_with_the_trials_that_did_not_finish(
    project: Project, command: Start, tmp_path: Path
) -> None:
    space(project, "adapt.steps: {low: 5, high: 50}\n")
    clones = project.folder / ".metavox/search"

    def processes() -> list[int]:
        lines = (tmp_path / "runs").read_text().splitlines() if (tmp_path / "runs").exists() else []
        return [int(line.split()[1]) for line in lines if " " in line]

    terminated = command("terminated")
    until(lambda: len(processes()) == 2 or terminated.process.poll() is not None, "the trial after the first")
    terminated.process.send_signal(signal.SIGTERM)
    assert terminated.wait() == 130, terminated.text()
    assert not any(psutil.pid_exists(process) for process in processes())
    assert not list(clones.glob("*/clones"))

    killed = command("killed")
    until(lambda: len(processes()) == 3 or killed.process.poll() is not None, "the same trial")
    killed.process.kill()
    killed.wait()
    assert list(clones.glob("*/clones"))
    busy = command("busy", "--wait", "0")
    assert busy.wait() == 1
    assert f"flow.lock is held by a stage of process {killed.process.pid}" in busy.message()
    os.killpg(os.getpgid(processes()[-1]), signal.SIGKILL)

    (tmp_path / "go").touch()
    last = command("last")
    assert last.wait() == 0, last.text()
    assert not list(clones.glob("*/clones"))
    first, *others = map(int, runs(project)[1:])
    assert first == 20
    assert others == [others[0]] * 3, "the trial that did not finish is repeated with the same values"
    name = f"learn-{do(project, 'git', 'rev-parse', 'HEAD')[:7]}"
    losses = {f"{name}-0": (first, (first - 7) ** 2), f"{name}-1": (others[0], (others[0] - 7) ** 2)}
    assert experiments(project) == losses
    best = min(losses, key=lambda name: losses[name][1])
    steps, loss = losses[best]
    assert last.message() == (
        f"metavox: {name}: 2 trials, 0 failed; the best is {best}: {LOSS} = {loss} with adapt.steps = {steps}"
    )
    assert f"dvc exp apply {best}" in last.text()


def test_a_search_of_which_no_trial_succeeds_stops_and_says_why(project: Project, server: str) -> None:
    choices = space(project, "adapt.steps: [10, 11, 12, 13, 14]\n")
    with pytest.raises(
        UserError, match=r"first 3 trials failed.*metrics\.json:los: no such number; expected one of loss$"
    ):
        search(choices, "metrics.json:los", trials=9, parallel=2, project=str(project.folder))
    assert len(runs(project)) <= 4
    assert not list((project.folder / ".metavox/search").glob("*/clones"))


STEPS = "adapt.steps: [5, 8]\n"


@pytest.mark.parametrize(
    ("text", "options", "line"),
    [
        ("adapt.stepping: [5, 8]\n", {}, "adapt.stepping: no such parameter"),
        ("adapt.steps: 5\n", {}, "adapt.steps: 5; expected {low: A, high: B}"),
        (
            "adapt.shots: [5, 8]\n",
            {},
            "adapt.shots: no stage up to learn depends on it, so it cannot change metrics.json:loss",
        ),
        (STEPS, {"metric": "loss"}, "loss: not a metric; expected FILE:KEY"),
        (STEPS, {"metric": "m.json:loss"}, "m.json: no stage .* expected one of metrics.json, judged.json"),
        (STEPS, {"metric": "metrics.json:of"}, "metrics.json:of: no such number; expected one of loss"),
        (STEPS, {"metric": "judged.json:loss"}, "judge measures on test speakers, who decide nothing"),
        (STEPS, {"stage": "prepare"}, "--stage prepare: does not need learn, which writes metrics.json"),
        (STEPS, {"stage": "nothing"}, "nothing: no such stage in dvc.yaml"),
        (STEPS, {"name": "../x"}, "--name ../x: expected letters"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    project: Project, text: str, options: dict[str, str], line: str
) -> None:
    (project.folder / "metrics.json").write_text('{"loss": 1, "of": "steps"}')
    (project.folder / "dvc.yaml").write_text(json.dumps({"stages": {**STAGES, "judge": JUDGE}}))
    Site(project.folder, "").commit(project.folder)
    given: dict[str, Any] = {"metric": LOSS, "direction": "minimize", "stage": None, "name": None, **options}
    with pytest.raises(UserError, match=line) as caught:
        plan_search(project.folder, Path(space(project, text)), **given)
    assert "\n" not in str(caught.value)


def test_uncommitted_changes_are_one_line(project: Project, tmp_path: Path) -> None:
    path = Path(space(project, STEPS))
    (project.folder / "params.yaml").write_text("adapt: {steps: 21}\n")
    with pytest.raises(UserError, match=r"params\.yaml: changed since commit .*; commit first"):
        plan_search(project.folder, path, LOSS, "minimize", None, None)
    with pytest.raises(UserError, match="not a git repository"):
        plan_search(tmp_path, path, LOSS, "minimize", None, None)
