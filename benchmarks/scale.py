"""The speeds and sizes that docs/research/scale.md is based on: `python benchmarks/scale.py [DATA]`. Takes a minute or two."""

import hashlib
import io
import sys
import tempfile
import time
from pathlib import Path

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


def timed(work) -> tuple[float, object]:
    """CPU seconds of this process, so that what else runs on the machine does not count."""
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def main(data: Path) -> None:
    torch.set_num_threads(1)
    rows = read_manifest(data / "manifest.csv")
    recorded = rows[~rows["synthetic"] & (rows["duration_s"] < 12)].sample(1500, random_state=0)
    paths = [str(data / path) for path in recorded["path"]]
    hours = recorded["duration_s"].sum() / 3600
    transform = LogMel(FeatureConfig())
    for path in paths[:50]:
        prepare_one(path, transform)
    seconds, _ = timed(lambda: [prepare_one(path, transform) for path in paths])
    print(
        f"prepare: {seconds / hours:.1f} CPU s an hour of audio, {1000 * seconds / len(paths):.2f} ms a recording of {3600 * hours / len(paths):.2f} s"
    )
    seconds, clips = timed(lambda: [resample(*decode(read_bytes(path), path), 16000) for path in paths])
    print(f"  of which reading, decoding, resampling to 16 kHz: {seconds / hours:.1f} CPU s an hour")
    seconds, _ = timed(lambda: [extract(clip, transform) for clip in clips])
    print(f"  of which log-mels: {seconds / hours:.1f} CPU s an hour")
    speech = [clip for clip, rate in zip(clips, recorded["sample_rate"], strict=True) if rate >= 16000]
    total = sum(map(len, speech)) / 16000 / 3600
    print(f"sizes, on {total:.2f} h recorded at 16 kHz or more, joined to utterances of about 6 s:")
    utterances = joined(speech, 6.0)
    for name, kind in {
        "wav 16 kHz 16 bit": ("WAV", "PCM_16"),
        "flac": ("FLAC", "PCM_16"),
        "opus": ("OGG", "OPUS"),
    }.items():
        files = []
        for clip in utterances:
            file = io.BytesIO()
            soundfile.write(file, clip, 16000, kind[1], format=kind[0])
            files.append(file.getvalue())
        seconds, _ = timed(
            lambda files=files: [extract(resample(*decode(one, "x"), 16000), transform) for one in files]
        )
        print(
            f"  {name}: {sum(map(len, files)) / total / 1e6:.1f} MB an hour; to log-mels {seconds / total:.1f} CPU s an hour"
        )
    print(f"log-mels as half floats, 64 bands: {64 * 100 * 3600 * 2 / 1e6:.1f} MB an hour")
    block = b"x" * 200_000_000
    for name in ("md5", "sha256"):
        seconds, _ = timed(lambda name=name: hashlib.new(name, block).hexdigest())
        print(f"{name}: {len(block) / seconds / 1e6:.0f} MB/s")
    with tempfile.TemporaryDirectory() as folder:
        parquet = Path(folder) / "m.parquet"
        rows.to_parquet(parquet)
        print(
            f"manifest: {len(rows)} rows; CSV {(data / 'manifest.csv').stat().st_size / len(rows):.0f} B a row, "
            f"Parquet {parquet.stat().st_size / len(rows):.0f} B, pandas {rows.memory_usage(deep=True).sum() / len(rows):.0f} B"
        )
        copies = max(1, 500_000 // len(rows))
        many = [rows.assign(path=rows["path"].str.replace(".tar/", f"-{i}.tar/")) for i in range(copies)]
        pd.concat(many).to_csv(Path(folder) / "manifest.csv", index=False)
        seconds, found = timed(lambda: read_shards(Remote(folder)))
        print(
            f"  reading {copies * len(rows)} rows of CSV for a stream: {1e6 * seconds / copies / len(rows):.1f} us a row"
        )
        held = sum(map(len, found.members)) + sum(part.nbytes for part in found.seconds)
        print(f"  of which it keeps {held / sum(map(len, found.seconds)):.0f} B a training row")
        seconds, _ = timed(lambda: read_manifest(parquet))
        print(f"  reading Parquet into pandas: {1e6 * seconds / len(rows):.1f} us a row")
    for count in (1_000_000, 4_000_000):
        frames = np.random.default_rng(0).lognormal(6, 0.6, count).astype(int).clip(20, 1200)
        seconds, _ = timed(lambda frames=frames: EndlessBatches(frames, 6000, 0)(0))
        print(f"batches: an epoch of {count} rows is planned in {seconds:.1f} s")


def joined(clips: list[np.ndarray], seconds: float) -> list[np.ndarray]:
    parts, held, size = [], [], 0
    for clip in clips:
        held.append(clip)
        size += len(clip)
        if size >= seconds * 16000:
            parts.append(np.concatenate(held))
            held, size = [], 0
    return [*parts, np.concatenate(held)] if held else parts


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
