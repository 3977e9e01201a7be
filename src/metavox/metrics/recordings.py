"""The recordings of a manifest, read and embedded on demand."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metavox.audio.features import extract, make_transform
from metavox.audio.read import read_audio
from metavox.audio.trim import word_in
from metavox.dataset.manifest import resolve
from metavox.enrolment.prototypes import embed_mels
from metavox.errors import UserError
from metavox.recognisers.conformer import Network
from metavox.threads import cores

MAX_CLIP_S = 20.0
CHUNK = 2000  # recordings whose log-mels are in memory at a time


@dataclass
class Recordings:
    """The recordings of the manifest `rows`; `unreadable` collects the rows that cannot be read, with the reason."""

    model: Network
    manifest: Path
    rows: pd.DataFrame
    views: int = 0
    seed: int = 0
    unreadable: dict[int, str] = field(default_factory=dict)
    _embedded: dict[int, torch.Tensor] = field(default_factory=dict)

    def samples(self, row: int) -> np.ndarray:
        """The word in the first 20 s, as the product compares it: (time,) at the model's sample rate. Raises UserError
        when the file cannot be read."""
        rate = self.model.config.features.sample_rate_hz
        samples = read_audio(resolve(self.manifest, str(self.rows.at[row, "path"])), rate)
        return word_in(samples[: int(MAX_CLIP_S * rate)], rate, self.model.config.word_margin_s)[0]

    def mels(self, row: int) -> torch.Tensor:
        """Log-mels (frames, mel). Raises UserError when the file cannot be read."""
        # Cloned, because autograd cannot differentiate with respect to an inference tensor.
        return extract(self.samples(row), make_transform(self.model.config.features)).clone()

    def embed(self, rows: Iterable[int]) -> bool:
        """Embed the rows that are not embedded yet; False if any of them cannot be read."""
        missing = [row for row in rows if row not in self._embedded]
        before = len(self.unreadable)
        for start in range(0, len(missing), CHUNK):
            mels = self._read(missing[start : start + CHUNK])
            embedded = embed_mels(self.model, list(mels.values()), self.views, self.seed)
            self._embedded |= dict(zip(mels, embedded, strict=True))
        return len(self.unreadable) == before

    def embeddings(self, rows: np.ndarray) -> torch.Tensor:
        """Embeddings (rows, 1 + views, embedding) of rows that `embed` has read."""
        return torch.stack([self._embedded[int(row)] for row in rows])

    def _read(self, rows: list[int]) -> dict[int, torch.Tensor]:
        def read(row: int) -> torch.Tensor | str:
            try:
                return self.mels(row)
            except UserError as error:
                return str(error)

        with ThreadPoolExecutor(cores()) as pool:
            results = dict(zip(rows, pool.map(read, rows), strict=True))
        self.unreadable |= {row: value for row, value in results.items() if isinstance(value, str)}
        return {row: value for row, value in results.items() if not isinstance(value, str)}
