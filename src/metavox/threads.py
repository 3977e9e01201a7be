"""The number of threads that torch uses, decided in one place by the kind of work.

A small network's threads spend more time waiting for each other than working, far more so on a busy machine: a stage
with a few million weights took 3 minutes with one thread, 6 with all cores of an idle machine, 31 with all of a busy one.
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
USES_IDLE_CORES = ("large batches", "foundation model")
OURS, OPENMP = "METAVOX_THREADS", "OMP_NUM_THREADS"
AUTO = "auto"
SAMPLE_S = 0.3
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def begin() -> None:
    """Limit this process and its children to one thread until work needs more, unless the user chose a number.

    A number in METAVOX_THREADS, or else in OMP_NUM_THREADS, is the user's choice and holds for all work. Call this before
    importing torch or numpy, whose libraries read the environment on import. Raises UserError for any other value.
    """
    if OURS not in os.environ:
        os.environ[OURS] = os.environ.get(OPENMP) or AUTO
    os.environ[OPENMP] = str(_user_choice() or 1)
    # A thread that spins while it waits keeps another from its core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def limit(work: Work) -> None:
    """Set the number of torch threads in this process to what `work` benefits from."""
    import torch

    torch.set_num_threads(count(work))


@contextmanager
def limited(work: Work) -> Iterator[None]:
    """Like `limit`, for the length of a `with` block."""
    import torch

    before = torch.get_num_threads()
    limit(work)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count(work: Work) -> int:
    """The number of threads for `work`.

    A small network runs fastest on one thread. A foundation model, or a small network with large batches, benefits from
    every idle core; next to another busy process on two cores, two threads took ten times as long as one. `one of many`
    is a request or a worker process, of which as many run at once as there are cores.
    """
    return _user_choice() or (max(1, min(cores(), idle_cores())) if work in USES_IDLE_CORES else 1)


def side_by_side(function: Callable[..., R], *items: Iterable[Any]) -> Iterator[R]:
    """Like `map`, with one concurrent call per core, for work that uses a single thread. torch releases the GIL."""
    with ThreadPoolExecutor(_user_choice() or cores()) as pool:
        yield from pool.map(function, *items)


def cores() -> int:
    """The number of cores that this process may use, which in a container can be far fewer than the machine has."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return min(allowed, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # not a container, or no quota ("max")
        return allowed


def idle_cores() -> int:
    """The number of the machine's cores that are idle, measured over SAMPLE_S seconds."""
    import psutil

    # Not cpu_times_percent: it rounds totals below one second up to a second.
    before = psutil.cpu_times()
    time.sleep(SAMPLE_S)
    after = psutil.cpu_times()
    idle, total = after.idle - before.idle, sum(after) - sum(before)
    return round((psutil.cpu_count() or 1) * idle / total) if total > 0 else 0


def _user_choice() -> int | None:
    """The number of threads that the user chose, if any. Raises UserError for an invalid one."""
    value = os.environ.get(OURS) or os.environ.get(OPENMP) or AUTO
    if value == AUTO:
        return None
    if not (value.isdecimal() and int(value) > 0):
        name = OURS if os.environ.get(OURS) else OPENMP
        raise UserError(f"{name}={value}: expected a number of threads, or {OURS}={AUTO}")
    return int(value)
