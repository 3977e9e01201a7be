"""Prepared speech on disk: a Parquet manifest and one memory-mapped file of log-mels."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

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

    @property
    def frames(self) -> np.ndarray:
        return self._frames

    def batch(self, rows: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded log-mels (batch, time, mel) and lengths (batch,)."""
        items = [self[int(row)] for row in rows]
        lengths = torch.tensor([len(item) for item in items])
        return torch.nn.utils.rnn.pad_sequence(items, batch_first=True), lengths

    def where(self, mask: np.ndarray | pd.Series) -> "Store":
        """A store of the rows for which `mask` (rows,) is true, over the same features."""
        return Store(self.folder, self.rows[np.asarray(mask)])


class LogMels:
    """A store's log-mels (frames, mel) by row, without the additional features after them."""

    def __init__(self, store: Store):
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self._store[row][:, : self._store.config.mels]
