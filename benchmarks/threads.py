"""Measure what threads cost or gain a small network: metavox's choice, torch's default, and one thread.

    python benchmarks/threads.py [--clips 60] [--rounds 5]

The work is that of `metavox fewshot`: clips of one second through the packaged conformer, in batches, and the scores of
enrolled words. Each setting runs in a process of its own, because libraries read their number of threads only once, and
the rounds alternate between the settings.

Columns: the load on the machine (as it is, or with one busy process per core added), the setting, its number of threads,
the median seconds over rounds, and these relative to metavox's choice.
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

CHOICE, ONE = "metavox's choice", "one thread"
SETTINGS = (CHOICE, "torch's default", ONE)
VARIABLES = ("METAVOX_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
WORDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.setting:
        threads, seconds = timed(args.setting, args.clips)
        print(threads, seconds)
        return
    print(f"{args.clips} clips, median of {args.rounds} rounds, {os.cpu_count()} cores")
    print(f"{'load':14s} {'setting':16s} {'threads':>7s} {'seconds':>8s} {'relative time':>14s}")
    for load, processes in (("as it is", 0), ("busy processes", os.cpu_count() or 1)):
        with busy_processes(processes):
            results = measure(args.clips, args.rounds)
        for setting, (threads, seconds) in results.items():
            relative = seconds / results[CHOICE][1]
            print(f"{load:14s} {setting:16s} {threads:7d} {seconds:8.2f} {relative:14.2f}", flush=True)


def measure(clips: int, rounds: int) -> dict[str, tuple[int, float]]:
    """Threads and median seconds of each setting."""
    threads: dict[str, int] = {}
    seconds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    for _ in range(rounds):
        for setting in SETTINGS:
            command = [sys.executable, __file__, "--clips", str(clips), "--setting", setting]
            process = subprocess.run(command, env=environment, text=True, capture_output=True, check=True)
            count, duration = process.stdout.split()
            threads[setting] = int(count)
            seconds[setting].append(float(duration))
    return {setting: (threads[setting], median(times)) for setting, times in seconds.items()}


def timed(setting: str, clips: int) -> tuple[int, float]:
    """The number of torch threads and the seconds of one pass, in this process."""
    from metavox import threads

    if setting == CHOICE:
        threads.begin()
    elif setting == ONE:
        os.environ["OMP_NUM_THREADS"] = "1"
    import numpy as np
    import torch

    from metavox.recognisers.bases.find import default_embedder
    from metavox.recognisers.delta import Vocabulary
    from metavox.recognisers.recogniser import WordEmbedder

    if setting == CHOICE:
        threads.limit("small network")
    embedder = default_embedder().load()
    assert isinstance(embedder, WordEmbedder)
    random = np.random.default_rng(0)
    rate = embedder.spec.sample_rate_hz
    audio = [random.normal(0, 0.1, rate).astype(np.float32) for _ in range(clips)]
    prototypes = embedder.embed(audio[:WORDS])  # also warms up
    vocabulary = Vocabulary(embedder.spec.digest, tuple(map(str, range(len(prototypes)))), prototypes)
    start = time.perf_counter()
    embedder.embed(embedder.prepare(audio))
    embedder.score_words(vocabulary, audio)
    return torch.get_num_threads(), time.perf_counter() - start


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processes busy for the length of a `with` block."""
    processes = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _spin() -> None:
    while True:
        sum(range(100_000))


if __name__ == "__main__":
    main()
