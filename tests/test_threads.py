"""The number of threads depends on the kind of work and on the user's settings."""

import os
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path
from typing import get_args

import psutil
import pytest
import torch

from metavox import threads
from metavox.errors import UserError
from metavox.threads import OPENMP, OURS, Work, begin, cores, count, idle_cores, limit, limited, side_by_side


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (OURS, OPENMP):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "restored after the test")
        monkeypatch.delenv(name)


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr(threads, "idle_cores", lambda: 64)


def test_a_small_network_gets_one_thread_and_a_foundation_model_all_cores(eight: None) -> None:
    begin()
    assert os.environ[OPENMP] == "1"
    assert [count(work) for work in get_args(Work)] == [1, 8, 8, 1]


@pytest.mark.parametrize(("idle", "expected"), [(64, 8), (3, 3), (0, 1)])
def test_a_foundation_model_uses_the_idle_cores(
    idle: int, expected: int, eight: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "idle_cores", lambda: idle)
    assert count("foundation model") == expected


@pytest.mark.parametrize(("name", "other"), [(OURS, OPENMP), (OPENMP, OURS)])
def test_the_users_number_applies_to_all_work_and_to_child_processes(
    name: str, other: str, eight: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    begin()
    assert os.environ[OPENMP] == os.environ.get(OURS) == "3"
    begin()  # as a child does
    assert count("small network") == count("foundation model") == 3


def test_a_child_process_does_not_mistake_begins_setting_for_the_users(eight: None) -> None:
    begin()
    child = "from metavox import threads as t; t.idle_cores = t.cores; t.begin(); print(t.count('foundation model'), t.cores())"
    printed = subprocess.run([sys.executable, "-c", child], text=True, capture_output=True, check=True).stdout
    assert printed.split()[0] == printed.split()[1]


@pytest.mark.parametrize("value", ["none", "0", "-1", "1.5"])
def test_an_invalid_number_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPENMP, value)
    with pytest.raises(UserError, match="expected a number of threads"):
        begin()


def test_limited_sets_and_restores_the_threads_of_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(threads, "idle_cores", lambda: 2)
    limit("small network")
    with limited("foundation model"):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("quota", "expected"), [("150000 100000", 2), ("max 100000", 16), (None, 16)])
def test_the_cpu_quota_of_a_container_counts(
    quota: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cores() == expected


def test_side_by_side_runs_one_task_per_core_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    both = threading.Barrier(2)
    assert list(side_by_side(lambda x: (both.wait(60), 10 * x)[1], [1, 2, 3, 4])) == [10, 20, 30, 40]
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda x: 1 / x, [1, 0]))
    monkeypatch.setenv(OURS, "1")
    ran: set[int] = set()
    list(side_by_side(lambda _: ran.add(threading.get_ident()), range(8)))
    assert len(ran) == 1, "the user's number applies here too"


@pytest.mark.parametrize(("busy_s", "expected"), [(0.0, 2), (0.3, 1), (0.6, 0)])
def test_idle_cores_are_counted_in_less_than_a_second_of_two_cores(
    busy_s: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = namedtuple("times", ("user", "idle"))
    readings = iter([times(100.0, 200.0), times(100.0 + busy_s, 200.6 - busy_s)])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(readings))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    assert idle_cores() == expected


def test_idle_cores_of_this_machine_are_no_more_than_it_has() -> None:
    assert 0 <= idle_cores() <= (os.cpu_count() or 1)
