"""How many threads torch works with: one place decides it, by what the work is.

Threads of a small network wait for each other longer than they work, and on a machine with other work for far longer: a
stage of a few million weights took 3 minutes with one thread, 6 with all of an idle machine, 31 with all of a busy one.
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from metavox.errors import UserError

R = TypeVar("R")
Work = Literal["small network", "large batches", "foundation model", "one of many"]
TAKES_IDLE_CORES = ("large batches", "foundation model")
OURS, OPENMP = "METAVOX_THREADS", "OMP_NUM_THREADS"
AUTO = "auto"
LOOK_S = 0.3
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def begin() -> None:
    """One thread for this process and its children until work asks for more, except where the user chose otherwise.

    A number in METAVOX_THREADS, or else in OMP_NUM_THREADS, is the user's choice, and holds for all work. Call it before
    torch and numpy are imported: their libraries read the environment only then. Raises UserError for another value.
    """
    if OURS not in os.environ:
        os.environ[OURS] = os.environ.get(OPENMP) or AUTO
    os.environ[OPENMP] = str(_chosen() or 1)
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # a thread that spins while it waits takes the core of another


def limit(work: Work) -> None:
    """From here on, torch works in this process with as many threads as `work` gains by."""
    import torch

    torch.set_num_threads(count(work))


@contextmanager
def limited(work: Work) -> Iterator[None]:
    """As `limit`, for the length of a `with`."""
    import torch

    before = torch.get_num_threads()
    limit(work)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count(work: Work) -> int:
    """Threads for `work`: a small network gains by none, a foundation model and a small network that learns from large
    batches by every core that is idle; beside another busy process on two cores, two threads took ten times as long as
    one. `one of many` is a request or a worker process, of which there are as many at once as cores."""
    return _chosen() or (max(1, min(cores(), idle_cores())) if work in TAKES_IDLE_CORES else 1)


def side_by_side(function: Callable[..., R], *items: Iterable[Any]) -> Iterator[R]:
    """As `map`, with as many calls at once as there are cores, for work that gains by no thread of its own.

    torch lets go of Python's lock while it computes.
    """
    with ThreadPoolExecutor(_chosen() or cores()) as pool:
        yield from pool.map(function, *items)


def cores() -> int:
    """Cores that this process may use: a container's share of a large machine can be two of its hundred."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return min(allowed, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or "max"
        return allowed


def idle_cores() -> int:
    """Cores of the whole machine that nobody used for a moment."""
    import psutil

    # Not cpu_times_percent: it takes what is less than a second of all cores together for a second.
    before = psutil.cpu_times()
    time.sleep(LOOK_S)
    after = psutil.cpu_times()
    idle, total = after.idle - before.idle, sum(after) - sum(before)
    return round((psutil.cpu_count() or 1) * idle / total) if total > 0 else 0


def _chosen() -> int | None:
    """What the user chose, if anything."""
    value = os.environ.get(OURS) or os.environ.get(OPENMP) or AUTO
    if value == AUTO:
        return None
    if not (value.isdecimal() and int(value) > 0):
        name = OURS if os.environ.get(OURS) else OPENMP
        raise UserError(f"{name}={value}: expected a number of threads, or {OURS}={AUTO}")
    return int(value)
