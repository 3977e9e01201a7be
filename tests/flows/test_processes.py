"""The command as real processes: two at once, Ctrl-C, kill -9."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from small_project import Command, Project, until

Start = Callable[..., Command]
CHILD_IGNORING_CTRL_C = "sleep 600 & echo $! > child"
WAIT_FOR_GO = "until [ -e go ]; do sleep 0.05; done; cp data slow"


@pytest.fixture
def slow(project: Project) -> Project:
    """One stage that prints its process ID and that of a child that ignores Ctrl-C, and continues once `go` exists."""
    project.write(
        slow={
            "cmd": f"echo $$ > pid; {CHILD_IGNORING_CTRL_C}; echo at work; {WAIT_FOR_GO}; kill $(cat child)",
            "deps": ["data"],
            "outs": ["slow"],
        }
    )
    return project


def pid(project: Project, name: str) -> int:
    return int((project.folder / name).read_text())


def ended(number: int) -> bool:
    try:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_logs_are_printed_live_and_a_second_pipeline_waits_for_the_first(
    slow: Project, pipeline_command: Start
) -> None:
    first = pipeline_command()
    first.wait_for("at work")  # while the stage still runs
    second = pipeline_command("--wait", "600")
    third = pipeline_command("--wait", "0")
    assert third.wait() == 1
    assert "pipeline.lock is held by process" in third.message()
    assert f"process {first.process.pid} (-m flows.pipeline" in third.message()
    second.wait_for(f"waiting up to 600 s for process {first.process.pid}")
    slow.touch("go")
    assert first.wait() == 0
    assert second.wait() == 0
    assert "slow up to date" in second.text()
    assert slow.runs() == ["slow"]


def ctrl_c(command: Command) -> None:
    """Send Ctrl-C as a terminal does: to every process of the group, including the temporary Prefect server."""
    os.killpg(command.process.pid, signal.SIGINT)


def terminate(command: Command) -> None:
    command.process.terminate()


@pytest.mark.parametrize(("interrupt", "own_server"), [(ctrl_c, True), (terminate, False)])
def test_an_interrupt_leaves_no_orphan_and_the_next_run_succeeds(
    slow: Project, pipeline_command: Start, interrupt: Callable[[Command], None], own_server: bool
) -> None:
    command = pipeline_command(own_server=own_server)
    command.wait_for("at work")
    interrupt(command)
    assert command.wait() == 130
    assert command.message().startswith("metavox: interrupted")
    assert "Traceback" not in command.text()
    until(lambda: ended(pid(slow, "pid")) and ended(pid(slow, "child")), "the stage's processes to end")
    slow.touch("go")
    assert pipeline_command().wait() == 0


def test_a_killed_flow_keeps_the_checkout_locked_until_its_stage_ends(
    slow: Project, pipeline_command: Start
) -> None:
    killed = pipeline_command()
    killed.wait_for("at work")
    killed.process.kill()
    killed.wait()
    second = pipeline_command("--wait", "0")
    assert second.wait() == 1
    assert f"a stage of process {killed.process.pid}" in second.message()
    os.killpg(os.getpgid(pid(slow, "pid")), signal.SIGKILL)
    until(lambda: ended(pid(slow, "pid")), "the stage to end")
    assert str(killed.process.pid) not in Path(slow.folder, ".dvc/tmp/rwlock").read_text()
    slow.touch("go")
    assert pipeline_command().wait() == 0
    assert slow.runs() == ["slow", "slow"]


def test_a_user_error_is_one_line(project: Project, pipeline_command: Start) -> None:
    project.write(only={"cmd": "cp data out", "deps": ["data"], "outs": ["out"]})
    command = pipeline_command("--stage", "other")
    assert command.wait() == 2
    assert command.text() == "metavox: other: no such stage in dvc.yaml; expected one of only\n"


def test_a_server_that_does_not_answer_is_one_line(project: Project, pipeline_command: Start) -> None:
    project.write(only={"cmd": "cp data out", "deps": ["data"], "outs": ["out"]})
    command = pipeline_command(PREFECT_API_URL="http://127.0.0.1:1/api")
    assert command.wait() == 2
    assert command.text().count("\n") == 1
    assert "cannot be reached at http://127.0.0.1:1/api" in command.text()
    assert "make server" in command.text()
    assert project.runs() == []
