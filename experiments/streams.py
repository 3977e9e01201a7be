"""Streams of recordings whose speaker and condition change from block to block, for test-time adaptation.

The conditions of the development stream are milder than those of the test stream, and others: mild noise, a narrow band and
a small room against those of `metavox.audio.adverse`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from metavox.audio import classical
from metavox.audio.adverse import ADVERSE, Condition, Others
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest, resolve
from metavox.errors import UserError
from metavox.text import normalise_text

CLEAN = "clean"
RATE = 16_000
BABBLERS = 24  # recordings of training speakers that babble is mixed from
LEAST_WORDS, LONGEST_S = 3, 12.0


def mild_noise(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """Pink noise at 15 dB."""
    return classical.noise(samples, classical.coloured(len(samples), 3.0, rate, random), 15.0)


def narrow_band(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """200 to 3000 Hz, as of a small loudspeaker."""
    return classical.bandwidth(samples, rate, 200.0, 3000.0)


def small_room(samples: np.ndarray, rate: int, random: np.random.Generator, others: Others) -> np.ndarray:
    """A small room with a decay of 0.4 s, and brown noise at 20 dB."""
    wet = classical.reverberate(samples, classical.room(0.4, rate, random, direct_db=2.0))
    return classical.noise(wet, classical.coloured(len(wet), 6.0, rate, random), 20.0)


MILD: dict[str, Condition] = {"noise": mild_noise, "band": narrow_band, "room": small_room}
# Speaker and condition of each block.
BLOCKS: dict[str, tuple[tuple[str, str], ...]] = {
    "dev": (
        ("queen-frank", "noise"),
        ("queen-prin", "band"),
        ("queen-zombie", "room"),
        ("queen-frank", CLEAN),
    ),
    "test": (
        ("queen-henry", CLEAN),
        ("queen-klunk", "phone"),
        ("queen-laris", "hall"),
        ("queen-lou", "babble"),
        ("queen-naomi", "cheap"),
        ("queen-oracle", "hall"),
        ("queen-henry", "phone"),
        ("queen-klunk", "cheap"),
    ),
}


@dataclass(frozen=True)
class Utterance:
    """Samples (time,) at RATE, as rendered in `condition`."""

    samples: np.ndarray
    text: str
    speaker: str
    condition: str


@dataclass(frozen=True)
class Corpus:
    """The manifest's English sentences of three words or more."""

    manifest: Path
    sentences: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> "Corpus":
        manifest = folder / "manifest.csv"
        rows = read_manifest(manifest)
        words = rows["text"].map(lambda text: len(normalise_text(str(text)).split()))
        usable = (rows["language"] == "en") & (rows["unit"] == "sentence") & ~rows["synthetic"]
        return cls(manifest, rows[usable & (rows["duration_s"] <= LONGEST_S) & (words >= LEAST_WORDS)])

    def clip(self, row: int) -> np.ndarray:
        return read_audio(resolve(self.manifest, str(self.sentences.at[row, "path"])), RATE)

    def training_clips(self, count: int) -> list[np.ndarray]:
        """Recordings of training speakers, drawn with one seed for all streams."""
        train = self.sentences[self.sentences["split"] == "train"]
        return [self.clip(row) for row in train.sample(min(count, len(train)), random_state=0).index]


def stream(corpus: Corpus, name: str, sentences: int, seed: int) -> list[Utterance]:
    """The stream `name`, with `sentences` different sentences in each block.

    Raises UserError if a speaker has too few.
    """
    babblers = corpus.training_clips(BABBLERS)
    out: list[Utterance] = []
    rows_of: dict[str, list[int]] = {}
    for speaker, condition in BLOCKS[name]:
        if speaker not in rows_of:
            own = corpus.sentences.index[corpus.sentences["speaker"] == speaker]
            rows_of[speaker] = [int(row) for row in np.random.default_rng(seed).permutation(own)]
        rows, rows_of[speaker] = rows_of[speaker][:sentences], rows_of[speaker][sentences:]
        if len(rows) < sentences:
            raise UserError(
                f"speaker {speaker} has too few sentences for its blocks of {sentences}; lower --sentences"
            )
        out += [_rendered(corpus, row, condition, seed, babblers) for row in rows]
    return out


def _rendered(
    corpus: Corpus, row: int, condition: str, seed: int, babblers: Sequence[np.ndarray]
) -> Utterance:
    samples = corpus.clip(row)
    if condition != CLEAN:
        random = np.random.default_rng((seed, row))
        samples = (MILD | ADVERSE)[condition](samples, RATE, random, babblers)
    about = corpus.sentences.loc[row]
    return Utterance(samples, str(about["text"]), str(about["speaker"]), condition)
