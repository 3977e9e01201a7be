"""N+M-way episodes, environments, and series shared by ranks: nothing leaks and nothing is drawn twice."""

import numpy as np
import pandas as pd
import pytest

from metavox.dataset.episodes import UNKNOWN, Episode, EpisodeSampler, EpisodeShape, Pairing, Series
from metavox.errors import UserError


def table(clips: int = 4, silences: int = 5) -> pd.DataFrame:
    rows = [
        {
            "language": language,
            "text": word,
            "speaker": f"{language}-{speaker}",
            "environment": f"room{speaker % 2}",
        }
        for language in ("en", "fr")
        for word in "abcdefg"
        for speaker in range(4)
        for _ in range(clips)
    ]
    rows += [{"language": "", "text": " ", "speaker": "", "environment": "street"}] * silences
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def draw(rows: pd.DataFrame, shape: EpisodeShape, count: int = 60, **options: object) -> list[Episode]:
    series = Series(EpisodeSampler(rows, shape, **options), seed=3)  # type: ignore[arg-type]
    return [series(step) for step in range(count)]


@pytest.mark.parametrize("pairing", ["same-speaker", "cross-speaker", "any"])
def test_unknown_words_and_background_are_queries_and_never_support(pairing: Pairing) -> None:
    rows = table()
    for episode in draw(rows, EpisodeShape(3, 2, 2, pairing, unknown=2, background=3)):
        known = episode.query_labels != UNKNOWN
        assert np.bincount(episode.query_labels[known]).tolist() == [2, 2, 2]
        assert np.bincount(episode.support_labels).tolist() == [2, 2, 2]
        assert len(episode.background) == len(episode.query) == 3 * 2 + 2 * 2 + 3
        assert episode.background.sum() == 3
        assert not (episode.background & known).any()
        silent, spoken = (
            rows.loc[episode.query[episode.background]],
            rows.loc[episode.query[~episode.background]],
        )
        assert (silent["text"] == " ").all()
        others = rows.loc[episode.query[~known & ~episode.background]]
        assert sorted(others["text"].value_counts()) == [2, 2]
        assert not set(others["text"]) & set(episode.words)
        assert len(set(episode.support) | set(episode.query)) == len(episode.support) + len(episode.query)
        support_speakers, query_speakers = set(rows.loc[episode.support, "speaker"]), set(spoken["speaker"])
        assert spoken["language"].nunique() == 1
        if pairing == "same-speaker":
            assert len(support_speakers | query_speakers) == 1
        if pairing == "cross-speaker":
            assert len(query_speakers) == 1
            assert not support_speakers & query_speakers


def test_every_word_is_sometimes_unknown() -> None:
    rows = table()
    episodes = draw(rows, EpisodeShape(3, 1, 1, unknown=2), 200)
    unknown = {rows.loc[row, "text"] for e in episodes for row in e.query[e.query_labels == UNKNOWN]}
    assert unknown == set("abcdefg")


def test_a_word_with_too_few_clips_to_teach_may_still_be_unknown() -> None:
    rows = pd.DataFrame({"language": "en", "speaker": "v", "text": ["a", "a", "b", "b", "c"]})
    for episode in draw(rows, EpisodeShape(2, 1, 1, unknown=1)):
        assert rows.loc[episode.query[episode.query_labels == UNKNOWN], "text"].tolist() == ["c"]


def test_background_is_not_a_word() -> None:
    rows = table()
    for episode in draw(rows, EpisodeShape(4, 1, 1), mix_languages=True):
        assert not episode.background.any()
        assert (rows.loc[np.concatenate([episode.support, episode.query]), "text"] != " ").all()


def test_an_episode_stays_inside_one_environment() -> None:
    rows = table()
    inside = draw(rows, EpisodeShape(4, 1, 1), within=("environment",))
    anywhere = draw(rows, EpisodeShape(4, 1, 1))

    def rooms(episode: Episode) -> int:
        return rows.loc[np.concatenate([episode.support, episode.query]), "environment"].nunique()

    assert {rooms(e) for e in inside} == {1}
    assert max(rooms(e) for e in anywhere) == 2


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_ranks_together_draw_the_series_of_one_process(world: int) -> None:
    sampler = EpisodeSampler(table(), EpisodeShape(3, 1, 1, unknown=1))
    alone = [tuple(Series(sampler, 5)(n).query) for n in range(42)]
    shared = [
        [tuple(Series(sampler, 5, rank, world)(step).query) for step in range(42 // world)]
        for rank in range(world)
    ]
    assert [shared[n % world][n // world] for n in range(42)] == alone
    assert len(set(alone)) > 30


def test_a_series_can_be_resumed_at_any_step() -> None:
    sampler = EpisodeSampler(table(), EpisodeShape(3, 1, 1, "cross-speaker"))
    uninterrupted = Series(sampler, 5)
    forward = [uninterrupted(step) for step in range(12)]
    resumed = Series(EpisodeSampler(table(), EpisodeShape(3, 1, 1, "cross-speaker")), 5)
    for step in (8, 9, 10, 11, 2):
        assert np.array_equal(resumed(step).support, forward[step].support)
        assert np.array_equal(resumed(step).query, forward[step].query)
    assert not np.array_equal(Series(sampler, 6)(0).support, forward[0].support)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (EpisodeShape(5, 1, 1, unknown=3), "5 words .* and 3 unknown words"),
        (EpisodeShape(2, 1, 1, background=6), "6 background clips .* and 5 background clips"),
    ],
)
def test_an_open_set_that_cannot_be_drawn_is_refused_with_the_clips_available(
    shape: EpisodeShape, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        EpisodeSampler(table(), shape)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(UserError, match="no column room"):
        EpisodeSampler(table(), EpisodeShape(2, 1, 1), within=("room",))
