"""Prepared speech on disk: a Parquet manifest and one memory-mapped file of log-mels."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metavox.audio.trim import speech_frames
from metavox.config import FeatureConfig, read
from metavox.dataset.manifest import read_manifest
from metavox.errors import UserError

FEATURES = "features.f16"  # raw little-endian half floats, (frames, mels)
ABOUT = "features.json"  # the FeatureConfig they were made with
MANIFEST = "manifest.parquet"


class Store:
    """Rows of a manifest and their log-mels. `rows` needs the columns `first_frame` and `frames`.

    Raises UserError when the folder contains no prepared speech.
    """

    def __init__(self, folder: Path, rows: pd.DataFrame | None = None):
        if not (folder / FEATURES).is_file():
            raise UserError(f"{folder}: no {FEATURES}; run `metavox stage prepare` first")
        self.folder = folder
        self.rows = (read_manifest(folder / MANIFEST) if rows is None else rows).reset_index(drop=True)
        self.config = read(FeatureConfig, json.loads((folder / ABOUT).read_text()))
        if (folder / FEATURES).stat().st_size == 0:
            raise UserError(
                f"{folder}: no recording could be decoded, see the column error of its {MANIFEST}"
            )
        self._features = np.memmap(folder / FEATURES, dtype="<f2", mode="r").reshape(-1, self.config.width)
        self._first = self.rows["first_frame"].to_numpy()
        self._frames = self.rows["frames"].to_numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> torch.Tensor:
        """Log-mels (frames, mel) of one row, as a copy."""
        first = self._first[row]
        return torch.from_numpy(
            np.asarray(self._features[first : first + self._frames[row]], dtype=np.float32)
        )

    def word(self, row: int, margins: tuple[int, int] = (0, 0)) -> torch.Tensor:
        """The row without the silence around its speech, as a word is enrolled and recognised (see `word_in`), except for
        up to `margins` frames before and after it."""
        frames = self[row]
        speech = speech_frames(self._levels_db(frames))
        if speech is None:
            return frames
        return frames[max(0, speech.start - margins[0]) : speech.stop + margins[1]]

    def words(
        self, rows: Sequence[int] | np.ndarray, margin: int, random: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `batch`, of words, each with margins drawn from 0 to `margin` frames."""
        margins = torch.randint(0, margin + 1, (len(rows), 2), generator=random).tolist()
        return _padded([self.word(int(row), (b, a)) for row, (b, a) in zip(rows, margins, strict=True)])

    def _levels_db(self, frames: torch.Tensor) -> np.ndarray:
        if self.config.kind == "waveform":
            power = frames.double().square().mean(dim=1) + 1e-10
        else:
            power = frames[:, : self.config.mels].double().exp().sum(dim=1)
        return 10 * power.log10().numpy()

    @property
    def frames(self) -> np.ndarray:
        return self._frames

    def batch(self, rows: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded log-mels (batch, time, mel) and lengths (batch,)."""
        return _padded([self[int(row)] for row in rows])

    def where(self, mask: np.ndarray | pd.Series) -> "Store":
        """A store of the rows for which `mask` (rows,) is true, over the same features."""
        return Store(self.folder, self.rows[np.asarray(mask)])


def _padded(items: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(item) for item in items])
    return torch.nn.utils.rnn.pad_sequence(items, batch_first=True), lengths


class LogMels:
    """A store's log-mels (frames, mel) by row, without the additional features after them."""

    def __init__(self, store: Store):
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self._store[row][:, : self._store.config.mels]
