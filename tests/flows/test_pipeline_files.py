"""dvc.yaml and prefect.yaml agree with each other and with the code."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_project import REPO

import flows.stages
from flows.project import read_stages
from flows.search import stages_of
from flows.trials import Metric
from metavox.errors import UserError
from metavox.params import load_params
from metavox.pipeline.artifacts import NAMES
from metavox.search.space import read_space

STAGES = {stage.name: stage for stage in read_stages(REPO)}


def test_stages_are_those_of_metavox() -> None:
    assert tuple(STAGES) == NAMES


def test_every_output_is_cached_so_that_another_machine_can_reuse_a_run() -> None:
    assert "cache" not in (REPO / "dvc.yaml").read_text()


def test_dependencies_on_code_are_what_the_stages_import() -> None:
    command = [sys.executable, "tools/code_deps.py", "--check"]
    check = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def test_every_stage_has_a_flow_and_a_deployment_on_its_pool() -> None:
    deployments = {
        item["name"]: item for item in yaml.safe_load((REPO / "prefect.yaml").read_text())["deployments"]
    }
    extra = {"pipeline", "collect", "readapt", "adapt-many", "refresh", "search"}
    assert set(deployments) == extra | set(STAGES)
    for name, stage in STAGES.items():
        assert deployments[name]["work_pool"]["name"] == stage.pool
        assert deployments[name]["entrypoint"] == f"flows/stages.py:{name}"
        assert getattr(flows.stages, name).name == name
        assert not deployments[name].get("schedules")
    assert deployments["pipeline"]["schedules"]


def test_the_deployed_search_is_one_that_can_run() -> None:
    deployments = yaml.safe_load((REPO / "prefect.yaml").read_text())["deployments"]
    (deployment,) = (each for each in deployments if each["name"] == "search")
    assert not deployment.get("schedules")
    given = deployment["parameters"]
    metric = Metric.parse(given["metric"])
    target, needed = stages_of(list(STAGES.values()), metric, None)
    space = read_space(REPO / given["space"], load_params(REPO / "params.yaml"))
    assert all(any(stage.reads(name) for stage in needed) for name in space)
    assert target.name == "metatrain"
    with pytest.raises(UserError, match="measures on test speakers"):
        stages_of(list(STAGES.values()), Metric.parse("artifacts/metrics/evaluate.json:headline"), None)


def test_lock_pins_every_package_without_paths_and_urls() -> None:
    lines = [
        line for line in (REPO / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]
    assert all(line.count("==") == 1 and not set(line) & set("/ +@;") for line in lines), lines
    assert "torch==2.13.0" in lines


def test_the_makefile_turns_telemetry_off_as_the_code_does() -> None:
    from metavox.telemetry import TELEMETRY_OFF

    makefile = Path(REPO, "Makefile").read_text()
    for name, value in TELEMETRY_OFF.items():
        assert f"export {name} ?= {value}\n" in makefile
