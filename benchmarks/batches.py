"""Compare metavox's batches by length with lhotse's bucketing samplers, on the durations of a corpus.

    python benchmarks/batches.py [MANIFEST]

Each sampler makes one epoch of batches of 60 s, padding included. Columns; times are CPU time of this process:

    padding              share of the batches that is padding; nan if the epoch repeats or lacks a row
    batches              number of batches in the epoch
    over the budget      batches that exceed 60 s
    every row once       whether the epoch contains each training row exactly once
    start                time until the first batch
    per batch            mean time of a batch after that
    step 50,000          time to make the batch of step 50,000 from seed and step alone
    under half full      batches of less than 30 s, padding included
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BUDGET_S, STEP = 60.0, 50_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", nargs="?", default="data/manifest.csv", type=Path)
    durations = training_durations(parser.parse_args().manifest)
    print(f"{len(durations)} rows, {durations.sum() / 3600:.2f} h, batches of {BUDGET_S:.0f} s")
    columns = ("sampler", "padding", "batches", "over the budget", "every row once", "start", "per batch")
    columns += (f"step {STEP:,}", "under half full")
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for mixing in (0.02, 0.05, 0.1, 0.5):
        measure_metavox(durations, mixing)
    for name in ("DynamicBucketingSampler", "BucketingSampler"):
        for buckets in (10, 30, 100):
            measure_lhotse(name, durations, buckets)


def training_durations(manifest: Path) -> np.ndarray:
    """In whole frames of 10 ms, so that all samplers see the same lengths."""
    rows = pd.read_csv(manifest, usecols=["duration_s", "split"])
    rows = rows[(rows["split"] == "train") & rows["duration_s"].between(0.1, 12)]
    return np.maximum(1, np.round(100 * rows["duration_s"].to_numpy())) / 100


def measure_metavox(durations: np.ndarray, mixing: float) -> None:
    from metavox.dataset.batches import EndlessBatches

    frames = np.round(100 * durations).astype(int)
    start = time.process_time()
    endless = EndlessBatches(frames, int(100 * BUDGET_S), 0, mixing)
    batches = [endless(0)]
    first = time.process_time() - start
    start = time.process_time()
    while sum(map(len, batches)) < len(frames):
        batches.append(endless(len(batches)))
    each = (time.process_time() - start) / len(batches)
    start = time.process_time()
    EndlessBatches(frames, int(100 * BUDGET_S), 0, mixing)(STEP)
    print_row(f"metavox, mixing {mixing}", durations, batches, first, each, time.process_time() - start)


def measure_lhotse(name: str, durations: np.ndarray, buckets: int) -> None:
    import lhotse.dataset.sampling as sampling
    from lhotse import CutSet, MonoCut

    def make() -> Any:
        options = {"sampler_type": sampling.SimpleCutSampler} if name == "BucketingSampler" else {}
        return getattr(sampling, name)(
            CutSet.from_cuts(MonoCut(str(i), 0.0, float(d), 0) for i, d in enumerate(durations)),
            max_duration=BUDGET_S,
            num_buckets=buckets,
            shuffle=True,
            seed=0,
            world_size=1,
            rank=0,
            **options,
        )

    start = time.process_time()
    iterator = iter(make())
    batches = [row_indices(next(iterator))]
    first = time.process_time() - start
    start = time.process_time()
    batches += remaining_batches(iterator)
    each = (time.process_time() - start) / len(batches)
    # The number of batches in an epoch is known only at its end, so step 50,000 needs a replay of all earlier steps.
    print_row(f"lhotse {name}, {buckets} buckets", durations, batches, first, each, each * STEP)
    check_resuming(name, make, len(batches) // 2)


def check_resuming(name: str, make: Callable[[], Any], steps: int) -> None:
    """Print whether a sampler restored from its state after `steps` gives the same batches, and the time to restore."""
    sampler = make()
    iterator = iter(sampler)
    for _ in range(steps):
        next(iterator)
    state = sampler.state_dict()
    expected = [batch.tolist() for batch in remaining_batches(iterator)]
    restored = make()
    start = time.process_time()
    restored.load_state_dict(state)
    milliseconds = 1000 * (time.process_time() - start)
    same = [batch.tolist() for batch in remaining_batches(iter(restored))] == expected
    print(
        f"<!-- {name}: after load_state_dict ({milliseconds:.0f} ms) the rest of the epoch "
        f"{'is the same' if same else 'DIFFERS'} -->"
    )


def remaining_batches(iterator: Iterator[Any]) -> list[np.ndarray]:
    """Not a `for` loop: it calls iter(), which restarts lhotse's samplers."""
    batches = []
    while (batch := next(iterator, None)) is not None:
        batches.append(row_indices(batch))
    return batches


def row_indices(cuts: Any) -> np.ndarray:
    return np.array([int(cut.id) for cut in cuts])


def print_row(
    name: str, durations: np.ndarray, batches: Sequence[np.ndarray], first: float, each: float, at_step: float
) -> None:
    padded = np.array([durations[batch].max() * len(batch) for batch in batches])
    padding = 1 - durations.sum() / padded.sum() if sum(map(len, batches)) == len(durations) else float("nan")
    once = sorted(np.concatenate(batches).tolist()) == list(range(len(durations)))
    print(
        f"| {name} | {100 * padding:.1f} % | {len(batches)} | {(padded > BUDGET_S * 1.005).sum()} | {once} "
        f"| {1000 * first:.0f} ms | {1e6 * each:.0f} us | {1000 * at_step:.0f} ms | {(padded < BUDGET_S / 2).sum()} |"
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
