"""What tells speakers apart without listening, and which words they have in common."""

import numpy as np
import pandas as pd

CHANNEL = ("sample rate", "bandwidth", "constant offset", "noise floor", "level")
CLIPS, LEAST, MOST = 40, 5, 6000  # of a speaker at most, of a speaker at least, of all speakers at most
NEAREST = 5
BAND = (0.1, 0.5, 0.9)  # quantiles


def recorded(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that people spoke; all of them where everything is synthetic."""
    real = rows[~rows["synthetic"].astype(bool)]
    return real if len(real) else rows


def told_by_channel(rows: pd.DataFrame) -> "pd.Series[float]":
    """Share of a speaker's clips whose speaker is guessed right from the channel alone; index: speaker.

    The guess is the vote of the five clips nearest in sample rate, bandwidth, offset, noise floor and level,
    all scaled alike; no word and no tone of speaker is in these. Every speaker gives the same number of clips
    at most, so by chance 1 / number of speakers are right. Speakers with fewer than five clips are left out.
    """
    clips = _sample(rows)
    if clips["speaker"].nunique() < 2:
        return pd.Series(dtype=float)
    points = _points(clips)
    speakers, names = pd.factorize(clips["speaker"], sort=True)
    right = np.concatenate(
        [
            _guess(points, speakers, some) == speakers[some]
            for some in np.array_split(np.arange(len(points)), 16)
        ]
    )
    return pd.Series(right, index=names[speakers], dtype=float).groupby(level=0).mean()


def speaker_table(rows: pd.DataFrame, told: "pd.Series[float]") -> pd.DataFrame:
    """A row a speaker, the narrowest bandwidth first: where it is from, its band (10th, 50th, 90th percentile)."""
    heard = rows[rows["bandwidth_hz"] > 0]
    if heard.empty:
        return pd.DataFrame()
    grouped = heard.groupby("speaker", sort=True)
    band = grouped["bandwidth_hz"].quantile(np.array(BAND)).unstack()
    about = grouped.agg(
        language=("language", _most),
        source=("source", _most),
        split=("split", _most),
        recordings=("path", "size"),
        hours=("duration_s", lambda s: s.sum() / 3600),
        sample_rate=("sample_rate", _most),
        snr_db=("snr_db", "median"),
    )
    band.columns = pd.Index(["low_hz", "middle_hz", "high_hz"])
    table = about.join(band).join(told.rename("told")).reset_index()
    return table.sort_values(["middle_hz", "speaker"], kind="stable").reset_index(drop=True)


def word_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """By language and split: speakers, words, words that two or more speakers say, and the largest cross-speaker task.

    That task asks one speaker for words that others have taught: as many of its words as anyone else says too.
    A word is a text as it is written in the manifest.
    """
    said = _said(rows)
    if said.empty:
        return pd.DataFrame(columns=["language", "split", "speakers", "words", "shared", "largest", "asked"])
    speakers_of = said.groupby(["language", "split", "text"])["speaker"].transform("size")
    shared = said[speakers_of > 1]
    keys = ["language", "split"]
    table = said.groupby(keys).agg(speakers=("speaker", "nunique"), words=("text", "nunique"))
    table["shared"] = shared.groupby(keys)["text"].nunique()
    each = shared.groupby([*keys, "speaker"]).size()
    if len(each):
        best = each.groupby(level=keys).idxmax()
        table["largest"] = each.groupby(level=keys).max()
        table["asked"] = best.map(lambda key: key[-1])
    else:
        table["largest"], table["asked"] = 0, ""
    table[["shared", "largest"]] = table[["shared", "largest"]].fillna(0).astype(int)
    table["asked"] = table["asked"].fillna("")
    return table.reset_index().sort_values(["largest", "words"], ascending=False, kind="stable")


def shared_words(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """How many words two speakers share, (speaker, speaker); at most `most` speakers, of the languages that share most.

    The diagonal is how many words a speaker has.
    """
    said = _said(rows)
    others = said.groupby(["language", "text"])["speaker"].transform("nunique") > 1
    rank = said[others].groupby("language").size().sort_values(ascending=False, kind="stable")
    chosen: list[tuple[str, str]] = []
    for language in rank.index:
        own = said[others & (said["language"] == language)].groupby("speaker").size()
        own = own.sort_values(ascending=False, kind="stable")
        chosen += [(str(language), str(speaker)) for speaker in own.index[: most - len(chosen)]]
    names = [f"{speaker} ({language})" for language, speaker in chosen]
    words = [_words(said, language, speaker) for language, speaker in chosen]
    return pd.DataFrame([[len(a & b) for b in words] for a in words], index=names, columns=names)


def _words(said: pd.DataFrame, language: str, speaker: str) -> set[tuple[str, str]]:
    own = said[(said["language"] == language) & (said["speaker"] == speaker)]
    return set(zip(own["language"], own["text"], strict=True))


def _said(rows: pd.DataFrame) -> pd.DataFrame:
    """Who says what, each once; a concept is not what is said."""
    known = (rows["text"].str.strip() != "") & (rows["text_kind"] != "concept")
    said = rows.loc[known, ["language", "split", "speaker", "text"]]
    return said.drop_duplicates(["language", "speaker", "text"]).sort_values(["language", "speaker", "text"])


def _sample(rows: pd.DataFrame) -> pd.DataFrame:
    """The same few clips of each speaker, spread over all of its clips in the order of their paths."""
    heard = rows[(rows["bandwidth_hz"] > 0) & (rows["sample_rate"] > 0)].sort_values(["speaker", "path"])
    counts = heard["speaker"].value_counts()
    speakers = counts[counts >= LEAST].index[: MOST // LEAST]
    heard = heard[heard["speaker"].isin(speakers)]
    each = max(LEAST, min(CLIPS, MOST // max(1, len(speakers))))
    place = heard.groupby("speaker").cumcount()
    count = heard["speaker"].map(counts)
    step = np.maximum(count.astype(float) / each, 1.0)
    return heard[(place / step).astype(int) > ((place - 1) / step).where(place > 0, -1).astype(int)]


def _points(clips: pd.DataFrame) -> np.ndarray:
    """(clip, feature), each feature with mean 0 and deviation 1."""
    found = np.column_stack(
        [
            np.log(clips["sample_rate"].to_numpy(float)),
            np.log(clips["bandwidth_hz"].clip(lower=100)),
            np.log10(clips["dc_offset"].clip(lower=1e-6)),
            clips["rms_db"] - clips["snr_db"],
            clips["rms_db"],
        ]
    )
    found = np.nan_to_num(found)
    return (found - found.mean(axis=0)) / (found.std(axis=0) + 1e-9)


def _guess(points: np.ndarray, speakers: np.ndarray, some: np.ndarray) -> np.ndarray:
    """The speaker (clip,) that the nearest other clips vote for; nearer ones weigh more."""
    distance = ((points[some, None, :] - points[None]) ** 2).sum(axis=2)
    distance[np.arange(len(some)), some] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, : min(NEAREST, len(points) - 1)]
    votes = np.zeros((len(some), speakers.max() + 1))
    for rank in range(nearest.shape[1]):
        np.add.at(votes, (np.arange(len(some)), speakers[nearest[:, rank]]), 1 / (rank + 1))
    guess: np.ndarray = votes.argmax(axis=1)
    return guess


def _most(values: "pd.Series") -> object:
    """The most frequent value; of several, the first in order."""
    counts = values.value_counts()
    return sorted(counts.index[counts == counts.max()])[0]
