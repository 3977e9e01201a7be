"""Batches by length, ours and lhotse's, on a corpus's own durations: `python benchmarks/batches.py [MANIFEST]`.

Each is asked for one epoch of batches of 60 s, padding included; then for the batch of step 50,000, from the seed and
the step alone. Times are CPU time of this process.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

BUDGET_S, STEP = 60.0, 50_000


def cuts_of(durations: np.ndarray):
    from lhotse import CutSet, MonoCut

    return CutSet.from_cuts(MonoCut(str(i), 0.0, float(d), 0) for i, d in enumerate(durations))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", nargs="?", default="data/manifest.csv", type=Path)
    rows = pd.read_csv(parser.parse_args().manifest, usecols=["duration_s", "split"])
    durations = rows.loc[
        (rows["split"] == "train") & rows["duration_s"].between(0.1, 12), "duration_s"
    ].to_numpy()
    durations = np.maximum(1, np.round(100 * durations)) / 100  # whole frames of 10 ms, for both
    print(f"{len(durations)} rows, {durations.sum() / 3600:.2f} h, batches of {BUDGET_S:.0f} s")
    print(
        "| sampler | padding | batches | over budget | rows once | start | a batch | step 50,000 | under half full |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    ours(durations)
    for name in ("DynamicBucketingSampler", "BucketingSampler"):
        for buckets in (10, 30, 100):
            lhotses(name, durations, buckets)


def ours(durations: np.ndarray) -> None:
    from metavox.dataset.batches import EndlessBatches

    frames = np.round(100 * durations).astype(int)
    for mixing in (0.02, 0.05, 0.1, 0.5):
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
        line(f"metavox, mixing {mixing}", durations, batches, first, each, time.process_time() - start)


def lhotses(name: str, durations: np.ndarray, buckets: int) -> None:
    import lhotse.dataset.sampling as sampling

    def make():
        kind = getattr(sampling, name)
        extra = {"sampler_type": sampling.SimpleCutSampler} if name == "BucketingSampler" else {}
        return kind(
            cuts_of(durations),
            max_duration=BUDGET_S,
            num_buckets=buckets,
            shuffle=True,
            seed=0,
            world_size=1,
            rank=0,
            **extra,
        )

    start = time.process_time()
    sampler = make()
    made = iter(sampler)
    batches = [rows_of(next(made))]
    first = time.process_time() - start
    start = time.process_time()
    batches += drained(made)
    each = (time.process_time() - start) / len(batches)
    # An epoch's number of batches is not known before it was gone through: the seed and the step alone mean a replay.
    line(f"lhotse {name}, {buckets} buckets", durations, batches, first, each, each * STEP)
    restore(name, make, batches)


def restore(name: str, make, batches) -> None:
    sampler = make()
    made = iter(sampler)
    half = len(batches) // 2
    for _ in range(half):
        next(made)
    state = sampler.state_dict()
    expected = [b.tolist() for b in drained(made)]
    again = make()
    start = time.process_time()
    again.load_state_dict(state)
    took = time.process_time() - start
    got = [b.tolist() for b in drained(iter(again))]
    print(
        f"<!-- {name}: the second half after load_state_dict is {'the same' if got == expected else 'ANOTHER'}, load_state_dict took {1000 * took:.0f} ms -->"
    )


def drained(made) -> list[np.ndarray]:
    """What is left; a `for` would call iter() again, and lhotse's samplers start anew then."""
    batches = []
    while (batch := next(made, None)) is not None:
        batches.append(rows_of(batch))
    return batches


def rows_of(cuts) -> np.ndarray:
    return np.array([int(cut.id) for cut in cuts])


def line(name, durations, batches, first, each, at) -> None:
    cost = np.array([durations[b].max() * len(b) for b in batches])
    padding = 1 - durations.sum() / cost.sum() if sum(map(len, batches)) == len(durations) else float("nan")
    once = sorted(np.concatenate(batches).tolist()) == list(range(len(durations)))
    print(
        f"| {name} | {100 * padding:.1f} % | {len(batches)} | {(cost > BUDGET_S * 1.005).sum()} | {once} "
        f"| {1000 * first:.0f} ms | {1e6 * each:.0f} us | {1000 * at:.0f} ms | {(cost < BUDGET_S / 2).sum()} |"
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
