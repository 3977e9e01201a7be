"""Peak memory of streaming once through N copies of a corpus's shards: `python benchmarks/stream_memory.py [DATA]`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

RUN = """
import resource, sys, time, torch
torch.set_num_threads(1)
from metavox.audio.features import FeatureConfig
from metavox.dataset.remote import Remote
from metavox.dataset.stream import Stream, read_shards
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shards = read_shards(Remote(sys.argv[1]))
with Stream(shards, FeatureConfig(), 6000, 0, window=int(sys.argv[2]), threads=1) as stream:
    step = frames = 0
    start, cpu = time.perf_counter(), time.process_time()
    while stream.at(step).epoch == 0:
        frames += int(stream(step)[1].sum()); step += 1
    cpu = time.process_time() - cpu
print(f"{len(shards.names)} shards, {shards.hours:.2f} h, {step} steps: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB ({before / 1024:.0f} before), {360000 * cpu / frames:.1f} CPU s an hour, skipped {stream.skipped.recordings}, left out {shards.left_out}")
"""
data = Path(sys.argv[1] if len(sys.argv) > 1 else "data").resolve()
rows = pd.read_csv(data / "manifest.csv", dtype=str, keep_default_na=False)
rows = rows[rows["path"].str.startswith(("shards/queen", "shards/asterisk-002"))]
for copies in (4, 20):
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for copy in range(copies):
            for shard in sorted(set(rows["path"].str.partition(".tar/")[0])):
                target = Path(folder) / f"{shard}-copy{copy}.tar"
                target.parent.mkdir(exist_ok=True)
                os.symlink(data / f"{shard}.tar", target)
            parts.append(
                rows.assign(path=rows["path"].str.replace(".tar/", f"-copy{copy}.tar/", regex=False))
            )
        pd.concat(parts).to_csv(Path(folder) / "manifest.csv", index=False)
        for window in (2,):
            print(
                f"{copies} x, window {window}:",
                subprocess.run(
                    [sys.executable, "-c", RUN, folder, str(window)],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.strip(),
            )
