"""Tasks that need adapting: a speaker with an accent, in a condition. They are planned and rendered from a seed alone.

Two thirds are real English speakers of the corpus, whose vocal tract and rate training tasks change as well, to make more
speakers of few. One third are voices of espeak-ng that speak the same sentences with the sounds of another language.
Training, development and test tasks share no speaker, voice, accent or condition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from metavox.adaptation.fine_tune import Recordings
from metavox.audio.classical import voice_changed
from metavox.audio.conditions import CLEAN, CONDITIONS, SPLITS, Split, clean
from metavox.audio.read import decode, read_audio, resample
from metavox.dataset.manifest import read_manifest, resolve
from metavox.errors import UserError
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.espeak import Rendition, Text
from metavox.text import normalise_text

LANGUAGE, READER = "en", "en-us"
# espeak-ng's codes. Languages that lack many English phonemes, and so drop whole syllables, are left out.
ACCENTS: dict[Split, tuple[str, ...]] = {
    "train": ("de", "it", "tr", "sv", "fi", "hi", "en-gb-scotland"),
    "dev": ("fr", "bn"),
    "test": ("nl", "pt", "ta"),
}
LEARNED = "learned"  # the condition of environments that a generator has learned, in training only
RESERVED_ENVIRONMENTS = ("gsm",)  # of real recordings; the codec is reserved for tests
SHORTEST_S, LONGEST_S = 1.2, 4.5
MIN_SENTENCES = 10  # of a speaker
ACCENT_EVERY = 3  # one task in so many is accented
WARP, TEMPO = (0.85, 1.18), (0.85, 1.2)
MAX_OTHERS = 24  # recordings that other talkers are mixed from
Environment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class TaskSpec:
    """A task before it is rendered. `rows` are the manifest's rows of its sentences, which an accented voice reads.

    `accent` and `variant` are empty for a real speaker. `warp` and `tempo` are those of `voice_changed`; `speed` (words
    per minute) and `pitch` (0..99) are espeak's.
    """

    split: Split
    speaker: str
    condition: str
    rows: tuple[int, ...]
    seed: int
    accent: str = ""
    variant: str = ""
    warp: float = 1.0
    tempo: float = 1.0
    speed: int = 150
    pitch: int = 50

    @property
    def name(self) -> str:
        return f"{self.speaker} in {self.condition}"


class AdverseTasks:
    """Plans and renders the tasks of a split from the manifest of a corpus, at `rate` Hz.

    `environment` adds a condition to training, for example learned environments. Raises UserError if no speaker of the
    split has enough sentences.
    """

    def __init__(self, manifest: Path, split: Split, rate: int, environment: Environment | None = None):
        self.manifest, self.split, self.rate, self.environment = manifest, split, rate, environment
        self.rows = read_manifest(manifest)
        own = usable_sentences(self.rows, split)
        counts = own.groupby("speaker").size()
        self.speakers = sorted(counts.index[counts >= MIN_SENTENCES])
        if not self.speakers:
            raise UserError(
                f"{manifest}: no {split} speaker has {MIN_SENTENCES} English sentences of {SHORTEST_S} to {LONGEST_S} s; "
                "build the corpus with `metavox corpus build`"
            )
        self.sentences = own[own["speaker"].isin(self.speakers)]
        self.conditions = [*CONDITIONS[split], *([LEARNED] if environment and split == "train" else [])]
        self.variants = _variants(split)
        talkers = usable_sentences(self.rows, "train").sample(frac=1.0, random_state=0).index[:MAX_OTHERS]
        self._others_rows = [int(row) for row in talkers]
        self._others: list[np.ndarray] = []

    def plan(self, count: int, recordings: int, seed: int) -> list[TaskSpec]:
        """`count` tasks of at most `recordings` sentences each; task i depends on the seed and i only.

        Speakers, accents and conditions take turns, so that few tasks cover them evenly.
        """
        return [self._task(index, recordings, seed) for index in range(count)]

    def _task(self, index: int, recordings: int, seed: int) -> TaskSpec:
        random = np.random.default_rng((seed, SPLITS.index(self.split), index))
        turn, place = divmod(index, ACCENT_EVERY)
        own_seed = int(random.integers(2**31))
        if place == ACCENT_EVERY - 1:
            accents = ACCENTS[self.split]
            accent, variant = accents[turn % len(accents)], str(random.choice(self.variants))
            rows = random.permutation(self.sentences.index)[:recordings]
            return TaskSpec(
                self.split,
                f"espeak-{accent}-{variant}",
                CLEAN if turn % 2 else self.conditions[turn % len(self.conditions)],
                tuple(map(int, rows)),
                own_seed,
                accent,
                variant,
                speed=int(random.integers(130, 180)),
                pitch=int(random.integers(35, 65)),
            )
        turn = turn * (ACCENT_EVERY - 1) + place
        speaker = self.speakers[turn % len(self.speakers)]
        rows = random.permutation(self.sentences.index[self.sentences["speaker"] == speaker])[:recordings]
        changed = self.split == "train"
        return TaskSpec(
            self.split,
            speaker,
            self.conditions[(turn + turn // len(self.speakers)) % len(self.conditions)],
            tuple(map(int, rows)),
            own_seed,
            warp=round(float(random.uniform(*WARP)), 2) if changed else 1.0,
            tempo=round(float(random.uniform(*TEMPO)), 2) if changed else 1.0,
        )

    def render(self, task: TaskSpec) -> Recordings:
        """The recordings of a task with their texts."""
        texts = [str(text) for text in self.rows.loc[list(task.rows), "text"]]
        voices = self._spoken(task, texts) if task.accent else [self._read(row) for row in task.rows]
        random = np.random.default_rng(task.seed)
        audio, kept = [], []
        for samples, text in zip(voices, texts, strict=True):
            if not len(samples):
                continue
            if (task.warp, task.tempo) != (1.0, 1.0):
                samples = voice_changed(samples, self.rate, task.warp, task.tempo)
            audio.append(self._in_condition(samples, task.condition, random))
            kept.append(text)
        return Recordings(audio, kept, LANGUAGE)

    def _in_condition(self, samples: np.ndarray, condition: str, random: np.random.Generator) -> np.ndarray:
        if condition == LEARNED and self.environment:
            return self.environment(samples, random)
        change = clean if condition == CLEAN else CONDITIONS[self.split][condition]
        return change(samples, self.rate, random, self.others)

    @property
    def others(self) -> Sequence[np.ndarray]:
        """Samples (time,) of training speakers, who talk in the background."""
        if not self._others:
            self._others = [self._read(row) for row in self._others_rows]
        return self._others

    def _read(self, row: int) -> np.ndarray:
        return read_audio(resolve(self.manifest, str(self.rows.at[row, "path"])), self.rate)

    def _spoken(self, task: TaskSpec, texts: Sequence[str]) -> list[np.ndarray]:
        """Samples (time,) of each text; empty where espeak-ng has no sound for it."""
        planned = [
            Rendition(
                Text(text, READER, "sentence", accent=task.accent),
                task.variant,
                task.speed,
                task.pitch,
                50,
                i,
            )
            for i, text in enumerate(texts)
        ]
        encoded = [espeak.encode(pcm or b"") for pcm in espeak.speak(planned, workers=1)]
        return [
            resample(*decode(data, task.name), self.rate) if data else np.zeros(0, np.float32)
            for data in encoded
        ]


def usable_sentences(rows: pd.DataFrame, split: Split) -> pd.DataFrame:
    """The real English sentences of a split's speakers of a fitting length."""
    return rows[
        (rows["split"] == split)
        & (rows["language"] == LANGUAGE)
        & (rows["unit"] == "sentence")
        & rows["text_kind"].isin(("spoken", ""))
        & ~rows["synthetic"].astype(bool)
        & ~rows["environment"].isin(RESERVED_ENVIRONMENTS)
        & rows["duration_s"].between(SHORTEST_S, LONGEST_S)
        & rows["text"].map(lambda text: bool(normalise_text(text)))
    ]


def _variants(split: Split) -> tuple[str, ...]:
    """The voice variants of a split: half of all for training, a quarter each for development and test."""
    names = espeak.variants()
    places = {"train": (0, 2), "dev": (1,), "test": (3,)}[split]
    return tuple(name for i, name in enumerate(names) if i % 4 in places)
