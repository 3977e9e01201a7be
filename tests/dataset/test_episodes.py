"""Episodes have the requested shape and pair the speakers of support and queries as requested."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metavox.dataset.episodes import Episode, EpisodeSampler, EpisodeShape, Pairing
from metavox.errors import UserError


def table(clips: int = 4) -> pd.DataFrame:
    rows = [
        {"language": language, "text": word, "speaker": f"{language}-{speaker}"}
        for language, words in (("en", "abcdef"), ("fr", "abcxyz"))
        for word in words
        for speaker in range(3)
        for _ in range(clips)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def draw(rows: pd.DataFrame, shape: EpisodeShape, count: int = 40, **options: object) -> list[Episode]:
    sampler = EpisodeSampler(rows, shape, **options)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    return [sampler(random) for _ in range(count)]


@pytest.mark.parametrize("pairing", ["same-speaker", "cross-speaker", "any"])
def test_shape_labels_and_speakers(pairing: Pairing) -> None:
    rows = table()
    for episode in draw(rows, EpisodeShape(4, 2, 2, pairing)):
        assert len(set(episode.words)) == 4
        assert np.bincount(episode.support_labels).tolist() == [2] * 4
        assert np.bincount(episode.query_labels).tolist() == [2] * 4
        assert not set(episode.support) & set(episode.query)
        assert len(set(episode.support)) == len(set(episode.query)) == 8
        for rows_of, labels in (
            (episode.support, episode.support_labels),
            (episode.query, episode.query_labels),
        ):
            assert rows.loc[rows_of, "text"].tolist() == [episode.words[i] for i in labels]
        used = rows.loc[np.concatenate([episode.support, episode.query])]
        assert used["language"].nunique() == 1
        support_speakers = set(rows.loc[episode.support, "speaker"])
        query_speakers = set(rows.loc[episode.query, "speaker"])
        if pairing == "same-speaker":
            assert len(support_speakers | query_speakers) == 1
        if pairing == "cross-speaker":
            assert len(query_speakers) == 1
            assert not support_speakers & query_speakers


def test_an_episode_can_mix_languages() -> None:
    rows = table()
    episodes = draw(rows, EpisodeShape(6, 1, 1), mix_languages=True)
    assert any(rows.loc[e.support, "language"].nunique() == 2 for e in episodes)


def test_queries_come_only_from_the_query_speakers() -> None:
    rows = table()
    episodes = draw(rows, EpisodeShape(3, 1, 1, "cross-speaker"), query_speakers=frozenset({"fr-2"}))
    assert {speaker for e in episodes for speaker in rows.loc[e.query, "speaker"]} == {"fr-2"}


def test_the_same_random_numbers_draw_the_same_episode() -> None:
    first, again = draw(table(), EpisodeShape(3, 1, 2)), draw(table(), EpisodeShape(3, 1, 2))
    assert all(np.array_equal(a.support, b.support) for a, b in zip(first, again, strict=True))
    assert len({tuple(e.support) for e in first}) > 20


@pytest.mark.parametrize(
    ("rows", "shape"),
    [
        (table(), EpisodeShape(7, 1, 1)),
        (table(clips=1), EpisodeShape(2, 1, 1, "same-speaker")),
        (table()[lambda t: t["speaker"].str.endswith("0")], EpisodeShape(2, 1, 1, "cross-speaker")),
        (table().iloc[:0], EpisodeShape(2, 1, 1)),
    ],
    ids=["too many words", "one clip per speaker", "one speaker per language", "nothing"],
)
def test_an_episode_that_cannot_be_drawn_is_refused_with_the_clips_available(
    rows: pd.DataFrame, shape: EpisodeShape
) -> None:
    with pytest.raises(UserError, match=rf"{shape.way} words .* cannot be drawn from {len(rows)} clips"):
        EpisodeSampler(rows, shape)


@pytest.mark.parametrize("pairing", ["any", "same-speaker", "cross-speaker"])
@pytest.mark.parametrize("unknown", [0, 1])
def test_a_refusal_names_the_largest_episode_that_fits(pairing: Pairing, unknown: int) -> None:
    too_large = EpisodeShape(9, 7, 5, pairing, unknown)
    with pytest.raises(UserError, match="cannot be drawn") as caught:
        EpisodeSampler(table(), too_large)
    advice = re.search(r"; --way (\d+) --shot (\d+) --queries (\d+) fits$", str(caught.value))
    assert advice, caught.value
    way, shot, queries = map(int, advice.groups())
    fits = replace(too_large, way=way, shot=shot, queries=queries)
    EpisodeSampler(table(), fits)
    for larger in (
        replace(fits, way=way + 1),
        replace(fits, shot=shot + 1),
        replace(fits, queries=queries + 1),
    ):
        if larger.shot <= too_large.shot and larger.queries <= too_large.queries:
            with pytest.raises(UserError, match="cannot be drawn"):
                EpisodeSampler(table(), larger)


def test_a_refusal_names_no_episode_if_none_fits() -> None:
    with pytest.raises(UserError, match=r"ask for fewer, or another --pairing$"):
        EpisodeSampler(table(clips=1), EpisodeShape(2, 1, 1, "same-speaker"))
