"""Measure the peak memory of streaming one epoch of several copies of a corpus's shards.

    python benchmarks/stream_memory.py [DATA]

DATA is the demo's corpus; its `queen` and `asterisk-002` shards are copied 4 and 20 times. Each line gives the number of
shards, hours and steps, the peak memory of the process (in brackets, before it read anything), the CPU time per hour of audio, and
the recordings that the stream skipped or left out. With a window of fixed size, the peak should grow little with the
number of shards.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

STREAM = """
import resource, sys, time, torch
torch.set_num_threads(1)

from metavox.config import FeatureConfig
from metavox.dataset.remote import Remote
from metavox.dataset.stream import Stream, read_shards

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
shards = read_shards(Remote(sys.argv[1]))
with Stream(shards, FeatureConfig(), 6000, 0, window=int(sys.argv[2]), threads=1) as stream:
    step = frames = 0
    start = time.process_time()
    while stream.at(step).epoch == 0:
        frames += int(stream(step)[1].sum()); step += 1
    seconds = time.process_time() - start
print(
    f"{len(shards.names)} shards, {shards.hours:.2f} h, {step} steps: peak {peak():.0f} MiB ({before:.0f} before), "
    f"{360000 * seconds / frames:.1f} CPU s per hour, "
    f"skipped {stream.skipped.recordings}, left out {shards.left_out}"
)
"""
COPIES = (4, 20)
WINDOW = 2  # shards


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, default=Path("data"))
    data = parser.parse_args().data.resolve()
    rows = pd.read_csv(data / "manifest.csv", dtype=str, keep_default_na=False)
    rows = rows[rows["path"].str.startswith(("shards/queen", "shards/asterisk-002"))]
    for copies in COPIES:
        with tempfile.TemporaryDirectory() as folder:
            copy_shards(data, rows, Path(folder), copies)
            command = [sys.executable, "-c", STREAM, folder, str(WINDOW)]
            process = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{copies} copies, window {WINDOW}: {process.stdout.strip()}")


def copy_shards(data: Path, rows: pd.DataFrame, out: Path, copies: int) -> None:
    """Make a corpus of linked copies of the shards that `rows` use."""
    tables = []
    for copy in range(copies):
        for shard in sorted(set(rows["path"].str.partition(".tar/")[0])):
            target = out / f"{shard}-copy{copy}.tar"
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(data / f"{shard}.tar")
        path = rows["path"].str.replace(".tar/", f"-copy{copy}.tar/", regex=False)
        tables.append(rows.assign(path=path))
    pd.concat(tables).to_csv(out / "manifest.csv", index=False)


if __name__ == "__main__":
    main()
