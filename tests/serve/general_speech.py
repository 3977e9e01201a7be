"""A corpus for the service to rehearse and to judge by, so that espeak-ng need not speak 80 sentences."""

from pathlib import Path

import pandas as pd
import soundfile
from clips_to_send import RATE, tone

from metavox.adaptation.rehearsal import MIN_RECORDINGS
from metavox.dataset.manifest import write_manifest


def write_general_speech(folder: Path, language: str = "en") -> None:
    """data/manifest.csv in `folder`: as few sentences as are enough, a second long, half of them of another speaker."""
    data = folder / "data"
    data.mkdir()
    rows = []
    for number in range(2 * MIN_RECORDINGS):
        soundfile.write(data / f"{number}.wav", tone(300 + 20 * number, 1.0, number), RATE)
        split = ("train", "dev")[number % 2]
        about = {"text": "a few words", "voice": split, "split": split, "unit": "sentence", "duration_s": 1.0}
        rows.append({"path": f"{number}.wav", "language": language, **about})
    write_manifest(pd.DataFrame(rows), data / "manifest.csv")
