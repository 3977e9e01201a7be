"""The flow on real DVC and a real Prefect server: what runs, what is skipped, what stops it."""

import json
import shutil
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from small_project import Project

from flows.gates import GateClosed
from flows.pipeline import pipeline
from flows.repro import StageFailed
from flows.stages import stage_flow
from metavox.errors import UserError
from metavox.journal import RUNS, lines

pytestmark = pytest.mark.usefixtures("server")


def chain(project: Project, validate: str = "cp data clean", meta: dict[str, Any] | None = None) -> None:
    """prepare -> validate -> package, listed in another order."""
    gate = {"gate": "verdict.success", "because": "verdict.failed", **(meta or {})}
    project.write(
        package={"cmd": "cat clean > bundle", "deps": ["clean"], "outs": ["bundle"]},
        validate={
            "cmd": validate,
            "deps": ["prepared"],
            "outs": ["clean"],
            "metrics": ["validate.json"],
            "meta": gate,
        },
        prepare={"cmd": "cp data prepared", "deps": ["data"], "outs": ["prepared"]},
    )


def verdict(success: bool, *failed: str) -> str:
    found = json.dumps({"verdict": {"success": success, "failed": failed}})
    return f"cp data clean; echo '{found}' > validate.json"


def test_runs_all_in_order_then_nothing_then_only_what_changed(project: Project) -> None:
    chain(project, verdict(True))
    state = pipeline(project=str(project.folder), return_state=True)
    assert state.result() == {"prepare": "ran", "validate": "ran", "package": "ran"}
    assert project.runs() == ["prepare", "validate", "package"]
    assert (project.folder / "bundle").read_text() == "one\n"

    again = pipeline(project=str(project.folder))
    assert set(again.values()) == {"up to date"}
    assert len(project.runs()) == 3

    (project.folder / "bundle").unlink()
    restored = pipeline(project=str(project.folder))
    assert restored["validate"] == "up to date"
    assert (project.folder / "bundle").read_text() == "one\n"

    (project.folder / "data").write_text("two\n")
    assert pipeline(project=str(project.folder))["package"] == "ran"
    assert (project.folder / "bundle").read_text() == "two\n"

    with get_client(sync_client=True) as client:
        tables = client.request("POST", "/artifacts/filter", json={}).json()
    run_id = str(state.state_details.flow_run_id)
    (rows,) = (json.loads(table["data"]) for table in tables if table["flow_run_id"] == run_id)
    assert {"stage": "validate", "state": "ran", "metric": "verdict.success", "value": True} in rows


def test_a_closed_gate_stops_the_flow_even_if_the_stage_is_up_to_date(project: Project) -> None:
    chain(project, verdict(False, "duration", "speakers"))
    for _ in range(2):
        with pytest.raises(
            GateClosed, match=r"validate: gate closed: .*validate\.json \(duration, speakers\)"
        ):
            pipeline(project=str(project.folder))
    assert project.runs() == ["prepare", "validate"]


def test_a_user_error_is_not_retried_and_keeps_its_message(project: Project) -> None:
    chain(project, "echo 'metavox: params.yaml: no such key: stepz' >&2; exit 2")
    with pytest.raises(UserError, match=r"^validate: params\.yaml: no such key: stepz$"):
        pipeline(project=str(project.folder))
    assert project.runs() == ["prepare", "validate"]


def test_a_crash_is_retried(project: Project) -> None:
    chain(project, "[ -e tried ] || { touch tried; exit 1; }; " + verdict(True))
    assert pipeline(project=str(project.folder))["validate"] == "ran"
    assert project.runs() == ["prepare", "validate", "validate", "package"]


def test_repeated_crashes_fail_after_the_last_retry(project: Project) -> None:
    chain(project, "exit 3", {"retries": 1})
    with pytest.raises(StageFailed, match="validate: exit status 3"):
        pipeline(project=str(project.folder))
    assert project.runs().count("validate") == 2


def test_a_stage_over_its_time_limit_is_stopped(project: Project) -> None:
    chain(project, "sleep 600", {"timeout_s": 3, "retries": 0})
    with pytest.raises(StageFailed, match="validate: stopped at its time limit of 3 s"):
        pipeline(project=str(project.folder))


def test_the_flow_of_a_stage_runs_only_what_the_stage_needs(project: Project) -> None:
    chain(project, verdict(True))
    flow = stage_flow("validate")
    assert flow.name == "validate"
    assert flow(project=str(project.folder)) == {"prepare": "ran", "validate": "ran"}
    assert project.runs() == ["prepare", "validate"]
    with pytest.raises(UserError, match="nonsense: no such stage"):
        stage_flow("nonsense")(project=str(project.folder))


@pytest.mark.parametrize("folder", [False, True])
def test_a_damaged_file_in_the_cache_is_found_and_made_again(project: Project, folder: bool) -> None:
    made = (
        "mkdir -p made && cp data made/x && cp data made/y && echo 2 >> made/y" if folder else "cp data made"
    )
    project.write(make={"cmd": made, "deps": ["data"], "outs": ["made"]})
    pipeline(project=str(project.folder))
    wanted = project.folder / ("made/y" if folder else "made")
    good = wanted.read_bytes()
    (copy,) = (
        path
        for path in (project.folder / ".dvc/cache").rglob("*")
        if path.is_file() and path.read_bytes() == good
    )
    copy.chmod(0o644)
    copy.write_bytes(good.replace(b"o", b"0"))
    shutil.rmtree(project.folder / "made") if folder else wanted.unlink()
    assert pipeline(project=str(project.folder)) == {"make": "ran"}
    assert wanted.read_bytes() == good
    assert copy.read_bytes() == good


def test_an_input_that_changes_while_a_stage_runs_discards_its_result(project: Project) -> None:
    # The first run reads `data` before somebody replaces it; the second finds it unchanged.
    replace = "cp data copy; [ -e again ] || { touch again; echo two > data; }"
    project.write(copy={"cmd": replace, "deps": ["data"], "outs": ["copy"]})
    assert pipeline(project=str(project.folder)) == {"copy": "ran"}
    assert project.runs() == ["copy", "copy"]
    assert (project.folder / "copy").read_text() == "two\n"
    (project.folder / "copy").unlink()
    assert pipeline(project=str(project.folder)) == {"copy": "from cache"}
    assert (project.folder / "copy").read_text() == "two\n", (
        "the run-cache has the result of the new data alone"
    )


def test_the_journal_names_run_outcome_and_outputs_of_each_stage(project: Project) -> None:
    chain(project, verdict(False, "rows"))
    with pytest.raises(GateClosed):
        pipeline(project=str(project.folder))
    stages = [line for line in lines(project.folder / RUNS) if line["event"] == "stage"]
    assert [(line["stage"], line["outcome"]) for line in stages] == [("prepare", "ran"), ("validate", "ran")]
    assert len(stages[0]["outs"]["prepared"]) == 32
    last = lines(project.folder / RUNS)[-1]
    assert (last["event"], last["outcome"]) == ("flow", "failed")
    assert "gate closed" in last["error"]
    with get_client(sync_client=True) as client:
        assert str(client.read_flow_run(last["run"]).id) == stages[0]["run"] == last["run"]
