"""The number of threads, by what the work is and by what the user says."""

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
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (OURS, OPENMP):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "to be put back")
        monkeypatch.delenv(name)


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr(threads, "idle_cores", lambda: 64)


def test_a_small_network_gains_by_no_thread_and_a_foundation_model_by_all(eight: None) -> None:
    begin()
    assert os.environ[OPENMP] == "1"
    assert [count(work) for work in get_args(Work)] == [1, 8, 8, 1]


@pytest.mark.parametrize(("idle", "expected"), [(64, 8), (3, 3), (0, 1)])
def test_a_foundation_model_takes_the_cores_that_are_idle(
    idle: int, expected: int, eight: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "idle_cores", lambda: idle)
    assert count("foundation model") == expected


@pytest.mark.parametrize(("name", "other"), [(OURS, OPENMP), (OPENMP, OURS)])
def test_a_number_of_the_users_holds_for_all_work_and_for_children(
    name: str, other: str, eight: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "3")
    begin()
    assert os.environ[OPENMP] == os.environ.get(OURS) == "3"
    begin()  # as a child does
    assert count("small network") == count("foundation model") == 3


def test_what_begin_sets_is_no_choice_of_the_users_in_a_child(eight: None) -> None:
    begin()
    child = "from metavox import threads as t; t.idle_cores = t.cores; t.begin(); print(t.count('foundation model'), t.cores())"
    printed = subprocess.run([sys.executable, "-c", child], text=True, capture_output=True, check=True).stdout
    assert printed.split()[0] == printed.split()[1]


@pytest.mark.parametrize("value", ["none", "0", "-1", "1.5"])
def test_what_is_no_number_is_one_line(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPENMP, value)
    with pytest.raises(UserError, match="expected a number of threads"):
        begin()


def test_torch_works_with_that_many_and_with_as_many_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    monkeypatch.setattr(threads, "idle_cores", lambda: 2)
    limit("small network")
    with limited("foundation model"):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("quota", "expected"), [("150000 100000", 2), ("max 100000", 16), (None, 16)])
def test_a_containers_share_counts(
    quota: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert cores() == expected


def test_as_many_at_once_as_cores_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    both = threading.Barrier(2)
    assert list(side_by_side(lambda x: (both.wait(60), 10 * x)[1], [1, 2, 3, 4])) == [10, 20, 30, 40]
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda x: 1 / x, [1, 0]))
    monkeypatch.setenv(OURS, "1")
    ran: set[int] = set()
    list(side_by_side(lambda _: ran.add(threading.get_ident()), range(8)))
    assert len(ran) == 1, "the user's number holds here too"


@pytest.mark.parametrize(("busy_s", "expected"), [(0.0, 2), (0.3, 1), (0.6, 0)])
def test_idle_cores_are_counted_in_less_than_a_second_of_two_cores(
    busy_s: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = namedtuple("times", ("user", "idle"))
    looks = iter([times(100.0, 200.0), times(100.0 + busy_s, 200.6 - busy_s)])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(looks))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    assert idle_cores() == expected


def test_idle_cores_of_this_machine_are_no_more_than_it_has() -> None:
    assert 0 <= idle_cores() <= (os.cpu_count() or 1)
