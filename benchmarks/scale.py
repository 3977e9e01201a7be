"""Measure the speeds and sizes from which docs/research/scale.md computes what 100,000 hours would need.

    python benchmarks/scale.py [DATA]

It takes a minute or two on the demo's corpus. Times are CPU time of this process on one thread, so other load on the
machine has little influence; "per hour" means per hour of audio.
"""

import argparse
import hashlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import soundfile
import torch

from metavox.audio.features import LogMel, extract
from metavox.audio.read import decode, read_bytes, resample
from metavox.config import FeatureConfig
from metavox.dataset.batches import EndlessBatches
from metavox.dataset.manifest import read_manifest
from metavox.dataset.remote import Remote
from metavox.dataset.stream import read_shards
from metavox.stages.prepare import prepare_one

T = TypeVar("T")
RATE = 16000
MAX_CLIP_S = 12
UTTERANCE_S = 6.0
FORMATS = {
    "wav 16 kHz 16 bit": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "opus": ("OGG", "OPUS"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, default=Path("data"))
    data = parser.parse_args().data
    torch.set_num_threads(1)
    rows = read_manifest(data / "manifest.csv")
    recorded = rows[~rows["synthetic"] & (rows["duration_s"] < MAX_CLIP_S)].sample(1500, random_state=0)
    transform = LogMel(FeatureConfig())
    clips = measure_preparation(data, recorded, transform)
    measure_formats(
        [clip for clip, rate in zip(clips, recorded["sample_rate"], strict=True) if rate >= RATE], transform
    )
    print(f"log-mels as half floats, 64 bands: {64 * 100 * 3600 * 2 / 1e6:.1f} MB per hour")
    measure_hashes()
    measure_manifests(data / "manifest.csv", rows)
    measure_batches()


def timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def measure_preparation(data: Path, recorded: pd.DataFrame, transform: LogMel) -> list[np.ndarray]:
    """Return the recordings, resampled."""
    paths = [str(data / path) for path in recorded["path"]]
    hours = recorded["duration_s"].sum() / 3600
    double = LogMel(transform.config).double()  # as the prepare stage computes them
    for path in paths[:50]:  # warm up
        prepare_one(path, double)
    seconds, _ = timed(lambda: [prepare_one(path, double) for path in paths])
    print(
        f"prepare: {seconds / hours:.1f} CPU s per hour, "
        f"{1000 * seconds / len(paths):.2f} ms per recording (mean length {3600 * hours / len(paths):.2f} s)"
    )
    seconds, clips = timed(lambda: [resample(*decode(read_bytes(path), path), RATE) for path in paths])
    print(f"  of which reading, decoding and resampling to 16 kHz: {seconds / hours:.1f} CPU s per hour")
    seconds, _ = timed(lambda: [extract(clip, transform) for clip in clips])
    print(f"  of which log-mels: {seconds / hours:.1f} CPU s per hour")
    return clips


def measure_formats(clips: list[np.ndarray], transform: LogMel) -> None:
    hours = sum(map(len, clips)) / RATE / 3600
    print(
        f"sizes, on {hours:.2f} h recorded at 16 kHz or more, joined to utterances of about {UTTERANCE_S:g} s:"
    )
    utterances = join(clips, UTTERANCE_S)
    for name, (container, encoding) in FORMATS.items():
        files = []
        for utterance in utterances:
            file = io.BytesIO()
            soundfile.write(file, utterance, RATE, encoding, format=container)
            files.append(file.getvalue())
        seconds, _ = timed(
            lambda files=files: [extract(resample(*decode(file, "x"), RATE), transform) for file in files]
        )
        print(
            f"  {name}: {sum(map(len, files)) / hours / 1e6:.1f} MB per hour, "
            f"{seconds / hours:.1f} CPU s per hour to log-mels"
        )


def join(clips: list[np.ndarray], seconds: float) -> list[np.ndarray]:
    """Concatenate clips to utterances of at least `seconds`."""
    utterances, pending, length = [], [], 0
    for clip in clips:
        pending.append(clip)
        length += len(clip)
        if length >= seconds * RATE:
            utterances.append(np.concatenate(pending))
            pending, length = [], 0
    return [*utterances, np.concatenate(pending)] if pending else utterances


def measure_hashes() -> None:
    block = b"x" * 200_000_000
    for name in ("md5", "sha256"):
        seconds, _ = timed(lambda name=name: hashlib.new(name, block).hexdigest())
        print(f"{name}: {len(block) / seconds / 1e6:.0f} MB/s")


def measure_manifests(manifest: Path, rows: pd.DataFrame) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parquet = Path(folder) / "m.parquet"
        rows.to_parquet(parquet)
        print(
            f"manifest: {len(rows)} rows; bytes per row: CSV {manifest.stat().st_size / len(rows):.0f}, "
            f"Parquet {parquet.stat().st_size / len(rows):.0f}, "
            f"pandas {rows.memory_usage(deep=True).sum() / len(rows):.0f}"
        )
        copies = max(1, 500_000 // len(rows))
        many = [rows.assign(path=rows["path"].str.replace(".tar/", f"-{i}.tar/")) for i in range(copies)]
        pd.concat(many).to_csv(Path(folder) / "manifest.csv", index=False)
        seconds, shards = timed(lambda: read_shards(Remote(folder)))
        count = copies * len(rows)
        print(f"  reading {count} rows of CSV for a stream: {1e6 * seconds / count:.1f} us per row")
        kept = sum(map(len, shards.members)) + sum(durations.nbytes for durations in shards.seconds)
        print(
            f"  memory of the stream's index: {kept / sum(map(len, shards.seconds)):.0f} B per training row"
        )
        seconds, _ = timed(lambda: read_manifest(parquet))
        print(f"  reading Parquet into pandas: {1e6 * seconds / len(rows):.1f} us per row")


def measure_batches() -> None:
    for count in (1_000_000, 4_000_000):
        frames = np.random.default_rng(0).lognormal(6, 0.6, count).astype(int).clip(20, 1200)
        seconds, _ = timed(lambda frames=frames: EndlessBatches(frames, 6000, 0)(0))
        print(f"batches: planning an epoch of {count} rows takes {seconds:.1f} s")


if __name__ == "__main__":
    main()
