"""A general corpus for the service's rehearsal and guards, so that espeak-ng need not speak 80 sentences."""

from pathlib import Path

import pandas as pd
import soundfile
from clips_to_send import RATE, tone

from metavox.adaptation.rehearsal import MIN_RECORDINGS
from metavox.dataset.manifest import write_manifest


def write_general_speech(folder: Path, language: str = "en") -> None:
    """Write data/manifest.csv in `folder` with the fewest sentences that are accepted, a second each, by two speakers."""
    data = folder / "data"
    data.mkdir()
    rows = []
    for number in range(2 * MIN_RECORDINGS):
        soundfile.write(data / f"{number}.wav", tone(300 + 20 * number, 1.0, number), RATE)
        split = ("train", "dev")[number % 2]
        about = {
            "text": "a few words",
            "speaker": split,
            "split": split,
            "unit": "sentence",
            "duration_s": 1.0,
        }
        rows.append({"path": f"{number}.wav", "language": language, **about})
    write_manifest(pd.DataFrame(rows), data / "manifest.csv")
