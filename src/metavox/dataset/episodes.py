"""Few-shot tasks: which clips teach, and which are asked about.

A task is rows of a manifest, never audio, so the same samplers serve training and measuring. A sampler is a
function of random numbers; `Series` makes it one of a seed and a step, shared out over ranks.
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
    """Task number `step * world + rank` of an endless series; ranks see disjoint parts of one series."""

    draw: Callable[[np.random.Generator], T]
    seed: int
    rank: int = 0
    world: int = 1

    def __call__(self, step: int) -> T:
        return self.draw(np.random.default_rng([self.seed, step * self.world + self.rank]))


@dataclass(frozen=True)
class Episode:
    """`support` and `query` are row positions; label i of `words` is taught by the rows labelled i.

    A query labelled UNKNOWN is another word, or no speech at all where `background` (queries,) is true.
    """

    words: tuple[str, ...]
    support: np.ndarray
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray
    background: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class EpisodeShape:
    """`way` words of `shot` + `queries` clips; `unknown` other words, `queries` clips each, and `background`
    clips without speech are only asked about."""

    way: int
    shot: int
    queries: int
    pairing: Pairing = "any"
    unknown: int = 0
    background: int = 0


class EpisodeSampler:
    """N-way K-shot episodes over labelled rows, N+M way where the shape has unknown words.

    same-speaker: support and queries are different clips of one speaker. cross-speaker: the queries' speaker is not
    in the support. any: different clips, whoever speaks. A word of one language is not the same word in another, and an
    episode stays inside one language, except with `mix_languages`, and inside one value of each column of `within`
    (environment, say). `query_speakers` limits who is asked about. Rows without text are background.

    Texts that `label_key` calls one word are one, in the spelling that comes first.

    Raises UserError when the rows cannot fill one such episode, saying what they hold.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        shape: EpisodeShape,
        mix_languages: bool = False,
        query_speakers: frozenset[str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.shape, self._query_speakers = shape, query_speakers
        columns = [*([] if mix_languages else ["language"]), *within]
        speech = (rows["text"].str.strip() != "").to_numpy(bool)
        self._background = np.flatnonzero(~speech)
        languages = rows["language"].fillna("").to_list() if "language" in rows else []
        rows = rows.assign(text=one_spelling(rows["text"].to_list(), languages))
        frame = pd.DataFrame({"word": rows["text"].to_numpy(str), "speaker": rows["speaker"].to_numpy(str)})
        frame["row"], frame["inside"] = np.arange(len(rows)), conditions(rows, columns)
        tables = [_table(part) for _, part in frame[speech].groupby("inside", sort=True)]
        self._groups = [group for table in tables for group in _groups_of(table, shape, query_speakers)]
        if not self._groups or len(self._background) < shape.background:
            fits = (
                _largest(tables, shape, query_speakers) if len(self._background) >= shape.background else None
            )
            raise UserError(self._why_not(rows[speech], fits))

    @property
    def asked(self) -> tuple[str | None, ...]:
        """The speakers that an episode may ask about; None is anybody."""
        return tuple(group.query_speaker for group in self._groups)

    def __call__(self, random: np.random.Generator) -> Episode:
        shape = self.shape
        group = self._groups[random.integers(len(self._groups))]
        clips = group.draw(random, shape)
        support, query = zip(*(clips[word] for word in clips), strict=True)
        labels = np.arange(shape.way)
        unknown = group.draw_unknown(random, shape, set(clips)) if shape.unknown else np.zeros(0, int)
        silent = self._background[:0]
        if shape.background:
            silent = random.choice(self._background, shape.background, replace=False)
        extra = len(unknown) + len(silent)
        asked = np.concatenate([*query, unknown, silent]).astype(int)
        return Episode(
            tuple(clips),
            np.concatenate(support),
            labels.repeat(shape.shot),
            asked,
            np.concatenate([labels.repeat(shape.queries), np.full(extra, UNKNOWN)]),
            np.arange(len(asked)) >= len(asked) - len(silent),
        )

    def _why_not(self, rows: pd.DataFrame, fits: EpisodeShape | None) -> str:
        s = self.shape
        each = rows.groupby(["language", "text"]).size()
        more = f" and {s.unknown} unknown words" if s.unknown else ""
        more += f" and {s.background} background clips" if s.background else ""
        silent = f" and {len(self._background)} background clips" if s.background else ""
        advice = (
            f"--way {fits.way} --shot {fits.shot} --queries {fits.queries} fits"
            if fits
            else "ask for fewer, or another --pairing"
        )
        return (
            f"{s.way} words with {s.shot}+{s.queries} clips each ({s.pairing}){more} cannot be drawn from "
            f"{len(rows)} clips of {rows['text'].nunique()} words by {rows['speaker'].nunique()} speakers{silent} "
            f"(at most {int(each.max()) if len(each) else 0} clips of a word); {advice}"
        )


@dataclass(frozen=True)
class UtteranceTask:
    """`support` and `query` are row positions, all of the conditions named."""

    conditions: tuple[str, ...]
    support: np.ndarray
    query: np.ndarray


@dataclass(frozen=True)
class UtteranceShape:
    """`support` + `queries` utterances of one condition: one value of the columns `by`, together.

    `mixed` conditions share a task, their clips in equal parts. cross-speaker: the queries are one speaker's, which is
    not in the support.
    """

    support: int
    queries: int
    by: tuple[str, ...] = ("speaker",)
    mixed: int = 1
    pairing: Literal["any", "cross-speaker"] = "any"


class UtteranceSampler:
    """Tasks of whole utterances of a speaker, a language, an environment, or several of these at once.

    Raises UserError when too few conditions can fill a task, or when a speaker is asked to be another.
    """

    def __init__(self, rows: pd.DataFrame, shape: UtteranceShape) -> None:
        if shape.pairing == "cross-speaker" and "speaker" in shape.by:
            raise UserError(
                f"tasks by {'+'.join(shape.by)} cannot be cross-speaker: a condition has one speaker; drop speaker or use any"
            )
        if shape.mixed > min(shape.support, shape.queries):
            raise UserError(f"{shape.mixed} conditions cannot share {shape.support}+{shape.queries} clips")
        self.shape = shape
        most = UtteranceShape(-(-shape.support // shape.mixed), -(-shape.queries // shape.mixed))
        frame = pd.DataFrame({"speaker": rows["speaker"].to_numpy(str), "row": np.arange(len(rows))})
        frame["inside"] = conditions(rows, shape.by)
        self._conditions: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for name, part in frame.groupby("inside", sort=True):
            sides = [
                (taught, asked)
                for taught, asked in _sides(part, shape.pairing)
                if len(asked) >= most.queries
                and len(taught) >= most.support + (most.queries if taught is asked else 0)
            ]
            if all(str(name).split("|")) and sides:  # a condition that nobody wrote down is none
                self._conditions[str(name)] = sides
        if len(self._conditions) < shape.mixed:
            raise UserError(
                f"{shape.support}+{shape.queries} utterances of {shape.mixed} {'+'.join(shape.by)} ({shape.pairing}) cannot be "
                f"drawn from {len(rows)} clips by {rows['speaker'].nunique()} speakers: {len(self._conditions)} conditions "
                "have enough; ask for fewer"
            )

    def __call__(self, random: np.random.Generator) -> UtteranceTask:
        names, shape = list(self._conditions), self.shape
        chosen = [names[i] for i in random.choice(len(names), shape.mixed, replace=False)]
        support, query = [], []
        for i, name in enumerate(chosen):
            sides = self._conditions[name]
            taught, asked = sides[random.integers(len(sides))]
            shots, queries = _part(shape.support, shape.mixed, i), _part(shape.queries, shape.mixed, i)
            if taught is asked:
                both = random.choice(taught, shots + queries, replace=False)
                support.append(both[:shots])
                query.append(both[shots:])
            else:
                support.append(random.choice(taught, shots, replace=False))
                query.append(random.choice(asked, queries, replace=False))
        return UtteranceTask(tuple(chosen), np.concatenate(support), np.concatenate(query))


def conditions(rows: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """The values of the columns, joined by `|`; raises UserError for a column that is not there."""
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


def _part(total: int, parts: int, i: int) -> int:
    return total // parts + (i < total % parts)


def _sides(rows: pd.DataFrame, pairing: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Who may teach and who may be asked about, a pair for each speaker that may be asked."""
    everyone = rows["row"].to_numpy()
    if pairing == "any":
        return [(everyone, everyone)]
    speakers = rows["speaker"].to_numpy(str)
    return [(everyone[speakers != speaker], everyone[speakers == speaker]) for speaker in np.unique(speakers)]


@dataclass(frozen=True)
class _Group:
    """Words that can meet in one episode, with the rows of each by speaker; `query_speaker` is who is asked.

    `askable` words have clips enough to be asked about, if not to be taught.
    """

    rows: dict[str, dict[str, np.ndarray]]
    query_speaker: str | None
    askable: dict[str, dict[str, np.ndarray]]

    def draw(
        self, random: np.random.Generator, shape: EpisodeShape
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        words = sorted(self.rows)
        chosen = [words[i] for i in random.choice(len(words), shape.way, replace=False)]
        return {word: self._clips(self.rows[word], random, shape) for word in chosen}

    def draw_unknown(self, random: np.random.Generator, shape: EpisodeShape, taught: set[str]) -> np.ndarray:
        words = sorted(set(self.askable) - taught)
        chosen = [words[i] for i in random.choice(len(words), shape.unknown, replace=False)]
        pools = [self._asked(self.askable[word]) for word in chosen]
        return np.concatenate([random.choice(pool, shape.queries, replace=False) for pool in pools])

    def _asked(self, speakers: dict[str, np.ndarray]) -> np.ndarray:
        """Every clip of a word that a query may be."""
        if self.query_speaker is not None:
            return speakers[self.query_speaker]
        return np.concatenate([rows for _, rows in sorted(speakers.items())])

    def _clips(
        self, speakers: dict[str, np.ndarray], random: np.random.Generator, shape: EpisodeShape
    ) -> tuple[np.ndarray, np.ndarray]:
        pool = self._asked(speakers)
        if shape.pairing == "cross-speaker":
            others = np.concatenate(
                [rows for speaker, rows in sorted(speakers.items()) if speaker != self.query_speaker]
            )
            return (
                random.choice(others, shape.shot, replace=False),
                random.choice(pool, shape.queries, replace=False),
            )
        picked = random.choice(pool, shape.shot + shape.queries, replace=False)
        return picked[: shape.shot], picked[shape.shot :]


_Table = dict[str, dict[str, np.ndarray]]  # the rows of each word by each speaker


def _table(rows: pd.DataFrame) -> _Table:
    table: _Table = {}
    for (word, speaker), clips in rows.groupby(["word", "speaker"])["row"]:
        table.setdefault(str(word), {})[str(speaker)] = clips.to_numpy()
    return table


def _largest(
    tables: Sequence[_Table], shape: EpisodeShape, query_speakers: frozenset[str] | None
) -> EpisodeShape | None:
    """The largest shape up to `shape` that the rows can fill: most words first, then most clips, then most shots."""
    found = []
    for shot in range(1, shape.shot + 1):
        for queries in range(1, shape.queries + 1):
            smaller = replace(shape, way=2, shot=shot, queries=queries)
            for group in (group for table in tables for group in _groups_of(table, smaller, query_speakers)):
                words = len(group.rows)
                if shape.unknown:
                    words = min(words, len(group.askable) - shape.unknown)
                found.append(replace(smaller, way=min(words, shape.way)))
    return max(found, key=lambda s: (s.way, s.shot + s.queries, s.shot), default=None)


def _groups_of(table: _Table, shape: EpisodeShape, query_speakers: frozenset[str] | None) -> list[_Group]:
    heard = {speaker for clips in table.values() for speaker in clips}
    speakers = heard & (query_speakers or heard)
    asked: list[str | None] = [None] if shape.pairing == "any" else [*sorted(speakers)]
    groups = []
    for speaker in asked:
        usable = {word: clips for word, clips in table.items() if _enough(clips, speaker, shape)}
        askable = (
            {word: clips for word, clips in table.items() if _askable(clips, speaker) >= shape.queries}
            if shape.unknown
            else {}
        )
        if len(usable) >= shape.way and len(askable) >= shape.unknown + (shape.way if askable else 0):
            groups.append(_Group(usable, speaker, askable))
    return groups


def _askable(speakers: dict[str, np.ndarray], speaker: str | None) -> int:
    return sum(map(len, speakers.values())) if speaker is None else len(speakers.get(speaker, ()))


def _enough(speakers: dict[str, np.ndarray], speaker: str | None, shape: EpisodeShape) -> bool:
    total = sum(map(len, speakers.values()))
    own = _askable(speakers, speaker)
    if shape.pairing == "same-speaker":
        return own >= shape.shot + shape.queries
    if shape.pairing == "cross-speaker":
        return own >= shape.queries and total - own >= shape.shot
    return total >= shape.shot + shape.queries
