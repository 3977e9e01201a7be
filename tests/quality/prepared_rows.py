"""A prepared manifest without faults, and with planted faults."""

from typing import Any

import pandas as pd

from metavox.params import Validate

LIMITS = Validate()
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def good_rows() -> pd.DataFrame:
    """15 speakers with 10 words each: 9 speakers in train, 3 in dev and 3 in test."""
    rows = []
    for speaker in range(15):
        for digit, word in enumerate(DIGITS):
            index = speaker * 10 + digit
            rows.append(
                {
                    "path": f"shards/test-000.tar/{speaker}/{word}.wav",
                    "text": word,
                    "speaker": f"speaker-{speaker}",
                    "language": "en",
                    "speaker_group": "",
                    "source": "test",
                    "license": "CC0-1.0",
                    "environment": "",
                    "split": "train" if speaker < 9 else "dev" if speaker < 12 else "test",
                    "unit": "digit",
                    "text_kind": "spoken",
                    "synthetic": False,
                    "duration_s": 0.6 + 0.001 * index,
                    "sample_rate": 8000,
                    "sha256": f"{index:064x}",
                    "peak": 0.5,
                    "rms_db": -20.0,
                    "dc_offset": 0.001,
                    "clipping": 0.0,
                    "silence": 0.2,
                    "snr_db": 30.0,
                    "bandwidth_hz": 3900.0,
                    "error": "",
                    "content": f"{index:064x}",
                    "first_frame": index * 60,
                }
            )
    return pd.DataFrame(rows)


def planted(faults: dict[int, dict[str, Any]]) -> pd.DataFrame:
    rows = good_rows()
    for row, values in faults.items():
        for column, value in values.items():
            rows.loc[row, column] = value
    return rows
