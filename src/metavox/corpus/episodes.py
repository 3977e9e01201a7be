"""Few-shot tasks: which clips teach a word, and which are asked about.

An episode is rows of a manifest, never audio, so the same sampler serves training and measuring.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from metavox.errors import UserError

Pairing = Literal["same-voice", "cross-voice", "any"]


@dataclass(frozen=True)
class Episode:
    """`support` and `query` are row positions; label i of `words` is taught by the rows labelled i."""

    words: tuple[str, ...]
    support: np.ndarray
    support_labels: np.ndarray
    query: np.ndarray
    query_labels: np.ndarray


@dataclass(frozen=True)
class EpisodeShape:
    way: int
    shot: int
    queries: int
    pairing: Pairing = "any"


class EpisodeSampler:
    """N-way K-shot episodes over labelled rows.

    same-voice: support and queries are different clips of one voice. cross-voice: the queries' voice is not
    in the support. any: different clips, whoever speaks. A word of one language is not the same word in another, and an
    episode stays inside one language, except with `mix_languages`. `query_voices` limits who is asked about.

    Raises UserError when the rows cannot fill one such episode, saying what they hold.
    """

    def __init__(
        self, rows: pd.DataFrame, shape: EpisodeShape, mix_languages: bool = False,
        query_voices: frozenset[str] | None = None,
    ) -> None:  # fmt: skip
        self.shape, self._query_voices = shape, query_voices
        self._language = np.where(mix_languages, "", rows["language"].to_numpy(str))
        self._word = rows["text"].to_numpy(str)
        self._voice = rows["voice"].to_numpy(str)
        self._groups = self._usable_groups()
        if not self._groups:
            raise UserError(self._why_not(rows))

    def __call__(self, random: np.random.Generator) -> Episode:
        group = self._groups[random.integers(len(self._groups))]
        clips = group.draw(random, self.shape)
        support, query = zip(*(clips[word] for word in clips), strict=True)
        labels = np.arange(self.shape.way)
        return Episode(
            tuple(clips), np.concatenate(support), labels.repeat(self.shape.shot),
            np.concatenate(query), labels.repeat(self.shape.queries),
        )  # fmt: skip

    def _usable_groups(self) -> list["_Group"]:
        frame = pd.DataFrame({"language": self._language, "word": self._word, "voice": self._voice})
        frame["row"] = np.arange(len(frame))
        groups: list[_Group] = []
        for _, rows in frame.groupby("language", sort=True):
            groups += _groups_of(rows, self.shape, self._query_voices)
        return groups

    def _why_not(self, rows: pd.DataFrame) -> str:
        s = self.shape
        each = rows.groupby(["language", "text"]).size()
        return (
            f"{s.way} words with {s.shot}+{s.queries} clips each ({s.pairing}) cannot be drawn from "
            f"{len(rows)} clips of {rows['text'].nunique()} words by {rows['voice'].nunique()} voices "
            f"(at most {int(each.max()) if len(each) else 0} clips of a word); ask for fewer, "
            "or another --pairing"
        )


@dataclass(frozen=True)
class _Group:
    """Words that can meet in one episode, with the rows of each by voice; `query_voice` is who is asked."""

    rows: dict[str, dict[str, np.ndarray]]
    query_voice: str

    def draw(
        self, random: np.random.Generator, shape: EpisodeShape
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        words = sorted(self.rows)
        chosen = [words[i] for i in random.choice(len(words), shape.way, replace=False)]
        return {word: self._clips(self.rows[word], random, shape) for word in chosen}

    def _clips(
        self, voices: dict[str, np.ndarray], random: np.random.Generator, shape: EpisodeShape
    ) -> tuple[np.ndarray, np.ndarray]:
        if shape.pairing == "cross-voice":
            own = voices[self.query_voice]
            others = np.concatenate(
                [rows for voice, rows in sorted(voices.items()) if voice != self.query_voice]
            )
            return (
                random.choice(others, shape.shot, replace=False),
                random.choice(own, shape.queries, replace=False),
            )
        pool = (
            voices[self.query_voice]
            if shape.pairing == "same-voice"
            else np.concatenate([rows for _, rows in sorted(voices.items())])
        )
        picked = random.choice(pool, shape.shot + shape.queries, replace=False)
        return picked[: shape.shot], picked[shape.shot :]


def _groups_of(rows: pd.DataFrame, shape: EpisodeShape, query_voices: frozenset[str] | None) -> list[_Group]:
    table = {
        str(word): {str(voice): part["row"].to_numpy() for voice, part in clips.groupby("voice")}
        for word, clips in rows.groupby("word")
    }
    asked = (
        [""] if shape.pairing == "any" else sorted(set(rows["voice"]) & (query_voices or set(rows["voice"])))
    )
    groups = []
    for voice in asked:
        usable = {word: voices for word, voices in table.items() if _enough(voices, voice, shape)}
        if len(usable) >= shape.way:
            groups.append(_Group(usable, voice))
    return groups


def _enough(voices: dict[str, np.ndarray], voice: str, shape: EpisodeShape) -> bool:
    total = sum(map(len, voices.values()))
    own = len(voices.get(voice, ()))
    if shape.pairing == "same-voice":
        return own >= shape.shot + shape.queries
    if shape.pairing == "cross-voice":
        return own >= shape.queries and total - own >= shape.shot
    return total >= shape.shot + shape.queries
