"""What threads cost a small network: time with what `threads.py` chooses, with torch's own default, and with one thread.

    python benchmarks/threads.py [--clips 60] [--rounds 5]

The work is that of `metavox fewshot`: clips of one second through a conformer of the packaged size, in batches, and the
scores of enrolled words. Each setting runs in a process of its own, because the libraries read their numbers of threads
only once; the settings take turns, so that other work on the machine meets them all alike. Times are medians of the
rounds, first on the machine as it is, then beside one busy process a core.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

SETTINGS = ("chosen", "torch's default", "one thread")
CHOICES = ("METAVOX_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
WORDS = 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=SETTINGS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        threads, seconds = timed(given.one, given.clips)
        print(threads, seconds)
        return
    print(f"{given.clips} clips, median of {given.rounds} rounds, {os.cpu_count()} cores")
    print(f"{'':16s} {'setting':16s} {'threads':>7s} {'seconds':>8s} {'ratio to chosen':>16s}")
    for where, busy in (("machine as it is", 0), ("beside busy ones", os.cpu_count() or 1)):
        with busy_processes(busy):
            found = measured(given.clips, given.rounds)
        for setting, (threads, seconds) in found.items():
            print(
                f"{where:16s} {setting:16s} {threads:7d} {seconds:8.2f} {seconds / found['chosen'][1]:16.2f}",
                flush=True,
            )


def measured(clips: int, rounds: int) -> dict[str, tuple[int, float]]:
    """Threads and median seconds of each setting."""
    threads: dict[str, int] = {}
    seconds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    clean = {name: value for name, value in os.environ.items() if name not in CHOICES}
    for _ in range(rounds):
        for setting in SETTINGS:
            command = [sys.executable, __file__, "--clips", str(clips), "--one", setting]
            printed = subprocess.run(
                command, env=clean, text=True, capture_output=True, check=True
            ).stdout.split()
            threads[setting] = int(printed[0])
            seconds[setting].append(float(printed[1]))
    return {setting: (threads[setting], median(times)) for setting, times in seconds.items()}


def timed(setting: str, clips: int) -> tuple[int, float]:
    """Threads that torch works with, and the seconds of one pass, in this process."""
    from metavox import threads

    if setting == "chosen":
        threads.begin()
    elif setting == "one thread":
        os.environ["OMP_NUM_THREADS"] = "1"
    import numpy as np
    import torch

    from metavox.recognisers.bases.find import default_embedder
    from metavox.recognisers.delta import Vocabulary
    from metavox.recognisers.recogniser import WordEmbedder

    if setting == "chosen":
        threads.limit("small network")
    embedder = default_embedder().load()
    assert isinstance(embedder, WordEmbedder)
    random = np.random.default_rng(0)
    rate = embedder.spec.sample_rate_hz
    audio = [random.normal(0, 0.1, rate).astype(np.float32) for _ in range(clips)]
    prototypes = embedder.embed(audio[:WORDS])  # also warms up
    words = Vocabulary(embedder.spec.digest, tuple(map(str, range(len(prototypes)))), prototypes)
    start = time.perf_counter()
    embedder.embed(embedder.prepare(audio))
    embedder.score_words(words, audio)
    return torch.get_num_threads(), time.perf_counter() - start


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute without end, for the length of the block."""
    running = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.terminate()
            process.join()


def _spin() -> None:
    while True:
        sum(range(100_000))


if __name__ == "__main__":
    main()
