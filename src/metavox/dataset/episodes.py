"""Few-shot episodes: which clips teach words (support), and which clips are tested (queries).

An episode holds rows of a manifest, never audio, so the same samplers serve training and evaluation. A sampler is a
function of random numbers; `Series` turns it into a function of a seed and a step, shared between ranks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

import numpy as np
import pandas as pd

from metavox.errors import UserError
from metavox.text import one_spelling

Pairing = Literal["same-speaker", "cross-speaker", "any"]
UNKNOWN = -1  # the label of a query that is none of the episode's words
T = TypeVar("T")


@dataclass(frozen=True)
class Series(Generic[T]):
    """Task `step * world + rank` of an endless series. Ranks get disjoint parts of one series."""

    draw: Callable[[np.random.Generator], T]
    seed: int
    rank: int = 0
    world: int = 1

    def __call__(self, step: int) -> T:
        return self.draw(np.random.default_rng([self.seed, step * self.world + self.rank]))


@dataclass(frozen=True)
class Episode:
    """`support` (way * shot,) and `query` (queries,) are row positions; label i stands for `words[i]`.

    A query labelled UNKNOWN is another word, or has no speech at all where `background` (queries,) is true.
    """

    words: tuple[str, ...]
    support: np.ndarray
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray
    background: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class EpisodeShape:
    """`way` words with `shot` + `queries` clips each; as further queries, `queries` clips of each of `unknown` other words
    and `background` clips without speech."""

    way: int
    shot: int
    queries: int
    pairing: Pairing = "any"
    unknown: int = 0
    background: int = 0


class EpisodeSampler:
    """N-way K-shot episodes over labelled rows; N+M-way if the shape has unknown words.

    Pairing: with same-speaker, support and queries are different clips of one speaker; with cross-speaker, the speaker
    of the queries is not in the support; with any, they are different clips by any speakers.

    A word of one language is not the same word in another, so an episode stays within one language unless
    `mix_languages`, and within one value of each of the columns `within` (such as environment). `query_speakers` limits
    whose clips are queries. Rows without text are background. Texts with the same `label_key` are one word, in the
    spelling that comes first.

    Raises UserError when the rows cannot fill one such episode, with what they do hold.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        shape: EpisodeShape,
        mix_languages: bool = False,
        query_speakers: frozenset[str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.shape = shape
        columns = [*([] if mix_languages else ["language"]), *within]
        speech = (rows["text"].str.strip() != "").to_numpy(bool)
        self._background = np.flatnonzero(~speech)
        languages = rows["language"].fillna("").to_list() if "language" in rows else []
        rows = rows.assign(text=one_spelling(rows["text"].to_list(), languages))
        frame = pd.DataFrame({"word": rows["text"].to_numpy(str), "speaker": rows["speaker"].to_numpy(str)})
        frame["row"], frame["condition"] = np.arange(len(rows)), conditions(rows, columns)
        tables = [_table(clips) for _, clips in frame[speech].groupby("condition", sort=True)]
        self._groups = [group for table in tables for group in _groups_of(table, shape, query_speakers)]
        if not self._groups or len(self._background) < shape.background:
            fits = (
                _largest(tables, shape, query_speakers) if len(self._background) >= shape.background else None
            )
            raise UserError(self._why_not(rows[speech], fits))

    @property
    def query_speakers(self) -> tuple[str | None, ...]:
        """The query speaker of each group of words; None stands for any speaker."""
        return tuple(group.query_speaker for group in self._groups)

    def __call__(self, random: np.random.Generator) -> Episode:
        shape = self.shape
        group = self._groups[random.integers(len(self._groups))]
        clips = group.draw(random, shape)
        support, queries = zip(*(clips[word] for word in clips), strict=True)
        labels = np.arange(shape.way)
        unknown = group.draw_unknown(random, shape, set(clips)) if shape.unknown else np.zeros(0, int)
        background = self._background[:0]
        if shape.background:
            background = random.choice(self._background, shape.background, replace=False)
        extra = len(unknown) + len(background)
        query = np.concatenate([*queries, unknown, background]).astype(int)
        return Episode(
            tuple(clips),
            np.concatenate(support),
            labels.repeat(shape.shot),
            query,
            np.concatenate([labels.repeat(shape.queries), np.full(extra, UNKNOWN)]),
            np.arange(len(query)) >= len(query) - len(background),
        )

    def _why_not(self, rows: pd.DataFrame, fits: EpisodeShape | None) -> str:
        s = self.shape
        clips_per_word = rows.groupby(["language", "text"]).size()
        more = f" and {s.unknown} unknown words" if s.unknown else ""
        more += f" and {s.background} background clips" if s.background else ""
        background = f" and {len(self._background)} background clips" if s.background else ""
        advice = (
            f"--way {fits.way} --shot {fits.shot} --queries {fits.queries} fits"
            if fits
            else "ask for fewer, or another --pairing"
        )
        return (
            f"{s.way} words with {s.shot}+{s.queries} clips each ({s.pairing}){more} cannot be drawn from "
            f"{len(rows)} clips of {rows['text'].nunique()} words by {rows['speaker'].nunique()} speakers{background} "
            f"(at most {int(clips_per_word.max()) if len(clips_per_word) else 0} clips of a word); {advice}"
        )


def conditions(rows: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """(rows,) the values of the columns joined by `|`. Raises UserError for a missing column."""
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise UserError(
            f"no column {', '.join(missing)} to make tasks by; there are {', '.join(rows.columns)}"
        )
    joined = np.full(len(rows), "", dtype=object)
    for i, name in enumerate(columns):
        values = rows[name].fillna("").to_numpy(str).astype(object)
        joined = joined + "|" + values if i else values
    return joined


_Clips = dict[str, np.ndarray]  # the rows of one word by speaker
_Table = dict[str, _Clips]  # the same for each word


@dataclass(frozen=True)
class _Group:
    """Words that can meet in one episode. `query_speaker` is None if any speaker may be in the queries.

    `teachable` words have enough clips for support and queries, `testable` words at least for queries.
    """

    teachable: _Table
    query_speaker: str | None
    testable: _Table

    def draw(
        self, random: np.random.Generator, shape: EpisodeShape
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Word -> (support rows, query rows)."""
        words = sorted(self.teachable)
        drawn = [words[i] for i in random.choice(len(words), shape.way, replace=False)]
        return {word: self._draw_clips(self.teachable[word], random, shape) for word in drawn}

    def draw_unknown(self, random: np.random.Generator, shape: EpisodeShape, taught: set[str]) -> np.ndarray:
        words = sorted(set(self.testable) - taught)
        drawn = [words[i] for i in random.choice(len(words), shape.unknown, replace=False)]
        pools = [self._query_pool(self.testable[word]) for word in drawn]
        return np.concatenate([random.choice(pool, shape.queries, replace=False) for pool in pools])

    def _query_pool(self, clips: _Clips) -> np.ndarray:
        if self.query_speaker is not None:
            return clips[self.query_speaker]
        return np.concatenate([rows for _, rows in sorted(clips.items())])

    def _draw_clips(
        self, clips: _Clips, random: np.random.Generator, shape: EpisodeShape
    ) -> tuple[np.ndarray, np.ndarray]:
        pool = self._query_pool(clips)
        if shape.pairing == "cross-speaker":
            others = np.concatenate(
                [rows for speaker, rows in sorted(clips.items()) if speaker != self.query_speaker]
            )
            return (
                random.choice(others, shape.shot, replace=False),
                random.choice(pool, shape.queries, replace=False),
            )
        drawn = random.choice(pool, shape.shot + shape.queries, replace=False)
        return drawn[: shape.shot], drawn[shape.shot :]


def _table(rows: pd.DataFrame) -> _Table:
    table: _Table = {}
    for (word, speaker), clips in rows.groupby(["word", "speaker"])["row"]:
        table.setdefault(str(word), {})[str(speaker)] = clips.to_numpy()
    return table


def _largest(
    tables: Sequence[_Table], shape: EpisodeShape, query_speakers: frozenset[str] | None
) -> EpisodeShape | None:
    """The largest shape up to `shape` that the rows can fill: by words, then by clips, then by shots."""
    shapes = []
    for shot in range(1, shape.shot + 1):
        for queries in range(1, shape.queries + 1):
            smaller = replace(shape, way=2, shot=shot, queries=queries)
            for group in (group for table in tables for group in _groups_of(table, smaller, query_speakers)):
                words = len(group.teachable)
                if shape.unknown:
                    words = min(words, len(group.testable) - shape.unknown)
                shapes.append(replace(smaller, way=min(words, shape.way)))
    return max(shapes, key=lambda s: (s.way, s.shot + s.queries, s.shot), default=None)


def _groups_of(table: _Table, shape: EpisodeShape, query_speakers: frozenset[str] | None) -> list[_Group]:
    present = {speaker for clips in table.values() for speaker in clips}
    allowed = present & (query_speakers or present)
    speakers: list[str | None] = [None] if shape.pairing == "any" else [*sorted(allowed)]
    groups = []
    for speaker in speakers:
        teachable = {word: clips for word, clips in table.items() if _can_teach(clips, speaker, shape)}
        testable = (
            {word: clips for word, clips in table.items() if _query_clips(clips, speaker) >= shape.queries}
            if shape.unknown
            else {}
        )
        if len(teachable) >= shape.way and len(testable) >= shape.unknown + (shape.way if testable else 0):
            groups.append(_Group(teachable, speaker, testable))
    return groups


def _query_clips(clips: _Clips, speaker: str | None) -> int:
    return sum(map(len, clips.values())) if speaker is None else len(clips.get(speaker, ()))


def _can_teach(clips: _Clips, speaker: str | None, shape: EpisodeShape) -> bool:
    total = sum(map(len, clips.values()))
    own = _query_clips(clips, speaker)
    if shape.pairing == "same-speaker":
        return own >= shape.shot + shape.queries
    if shape.pairing == "cross-speaker":
        return own >= shape.queries and total - own >= shape.shot
    return total >= shape.shot + shape.queries
