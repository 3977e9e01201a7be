"""The recordings of a manifest, read and embedded as far as somebody asks for them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metavox.audio.features import extract, make_transform
from metavox.audio.read import read_audio
from metavox.dataset.manifest import resolve
from metavox.enrolment.prototypes import embed_mels
from metavox.errors import UserError
from metavox.recognisers.conformer import Network
from metavox.threads import cores

MAX_CLIP_S = 20.0
AT_ONCE = 2000  # recordings whose log-mels are held


@dataclass
class Recordings:
    """`rows` of a manifest by their place; `unreadable` grows with what cannot be read, and why."""

    model: Network
    manifest: Path
    rows: pd.DataFrame
    views: int = 0
    seed: int = 0
    unreadable: dict[int, str] = field(default_factory=dict)
    _embedded: dict[int, torch.Tensor] = field(default_factory=dict)

    def samples(self, row: int) -> np.ndarray:
        """(time,) at the model's rate, the first 20 s. Raises UserError."""
        rate = self.model.config.features.sample_rate_hz
        return read_audio(resolve(self.manifest, str(self.rows.at[row, "path"])), rate)[
            : int(MAX_CLIP_S * rate)
        ]

    def mels(self, row: int) -> torch.Tensor:
        """Log-mels (frames, mel). Raises UserError."""
        # Cloned: nothing can be derived with respect to an inference tensor.
        return extract(self.samples(row), make_transform(self.model.config.features)).clone()

    def embed(self, wanted: Iterable[int]) -> bool:
        """Embed the rows that are not yet; whether all could be read."""
        missing = [row for row in wanted if row not in self._embedded]
        before = len(self.unreadable)
        for start in range(0, len(missing), AT_ONCE):
            found = self._read(missing[start : start + AT_ONCE])
            embedded = embed_mels(self.model, list(found.values()), self.views, self.seed)
            self._embedded |= dict(zip(found, embedded, strict=True))
        return len(self.unreadable) == before

    def embeddings(self, rows: np.ndarray) -> torch.Tensor:
        """(rows, 1 + views, embedding) of rows that are embedded."""
        return torch.stack([self._embedded[int(row)] for row in rows])

    def _read(self, wanted: list[int]) -> dict[int, torch.Tensor]:
        def one(row: int) -> torch.Tensor | str:
            try:
                return self.mels(row)
            except UserError as error:
                return str(error)

        with ThreadPoolExecutor(cores()) as pool:
            results = dict(zip(wanted, pool.map(one, wanted), strict=True))
        self.unreadable |= {row: value for row, value in results.items() if isinstance(value, str)}
        return {row: value for row, value in results.items() if not isinstance(value, str)}
