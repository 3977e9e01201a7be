"""A corpus of noise: twelve English sentences of each speaker, and some rows that no task of adaptation may use."""

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from metavox.dataset.manifest import COLUMNS

RATE_HZ = 16_000
SPEAKERS = {"anna": "train", "ben": "train", "carla": "dev", "dan": "dev", "eve": "test", "finn": "test"}


def write_corpus(folder: Path) -> Path:
    """Write recordings and a manifest into `folder`; returns the manifest."""
    rows, random = [], np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)

    def add(speaker: str, split: str, **other: object) -> None:
        path = f"{len(rows)}.wav"
        soundfile.write(folder / path, 0.1 * random.normal(size=2 * RATE_HZ), RATE_HZ)
        rows.append(
            {
                "path": path,
                "text": f"sentence number {len(rows)}",
                "speaker": speaker,
                "split": split,
                "language": "en",
                "unit": "sentence",
                "duration_s": 2.0,
                **other,
            }
        )

    for speaker, split in SPEAKERS.items():
        for _ in range(12):
            add(speaker, split)
    for _ in range(12):
        add("robot", "train", synthetic=True)
        add("caller", "train", environment="gsm")
        add("pole", "train", language="pl")
        add("talker", "train", duration_s=9.0)
    table = pd.DataFrame({**COLUMNS, **pd.DataFrame(rows).to_dict("series")})
    table["synthetic"] = table["synthetic"].fillna(False).astype(bool)
    table.fillna("").to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"
