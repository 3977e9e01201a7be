"""How well the recording channel alone identifies speakers, and which words speakers have in common."""

from collections import Counter

import numpy as np
import pandas as pd

CHANNEL = ("sample rate", "bandwidth", "constant offset", "noise floor", "level")
MAX_CLIPS, MIN_CLIPS, MAX_TOTAL = 40, 5, 6000  # per speaker, per speaker, of all speakers
NEAREST = 5
BAND = (0.1, 0.5, 0.9)  # quantiles


def recorded(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not synthetic; all rows where everything is synthetic."""
    real = rows[~rows["synthetic"].astype(bool)]
    return real if len(real) else rows


def identified_by_channel(rows: pd.DataFrame) -> "pd.Series[float]":
    """Share of each speaker's clips whose speaker is guessed right from the channel alone, indexed by speaker.

    The guess is the vote of the five nearest clips in standardised sample rate, bandwidth, DC offset, noise floor and
    level, none of which depends on the words or the voice. Every speaker contributes at most the same number of clips, so
    chance is 1 / number of speakers. Speakers with fewer than MIN_CLIPS clips are left out.
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


def speaker_table(rows: pd.DataFrame, identified: "pd.Series[float]") -> pd.DataFrame:
    """One row per speaker, the narrowest bandwidth first: origin, and bandwidth at the 10th, 50th and 90th percentile."""
    measured = rows[rows["bandwidth_hz"] > 0]
    if measured.empty:
        return pd.DataFrame()
    grouped = measured.groupby("speaker", sort=True)
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
    table = about.join(band).join(identified.rename("identified")).reset_index()
    return table.sort_values(["middle_hz", "speaker"], kind="stable").reset_index(drop=True)


def word_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """By language and split: speakers, words, words that two or more speakers say, and the largest cross-speaker task.

    The queries of that task come from one speaker (`query_speaker`), and its words are all of this speaker's words that
    another speaker says too. A word is a text as written in the manifest.
    """
    texts = _distinct_texts(rows)
    if texts.empty:
        return pd.DataFrame(
            columns=["language", "split", "speakers", "words", "shared", "largest", "query_speaker"]
        )
    speakers_of = texts.groupby(["language", "split", "text"])["speaker"].transform("size")
    shared = texts[speakers_of > 1]
    keys = ["language", "split"]
    table = texts.groupby(keys).agg(speakers=("speaker", "nunique"), words=("text", "nunique"))
    table["shared"] = shared.groupby(keys)["text"].nunique()
    each = shared.groupby([*keys, "speaker"]).size()
    if len(each):
        best = each.groupby(level=keys).idxmax()
        table["largest"] = each.groupby(level=keys).max()
        table["query_speaker"] = best.map(lambda key: key[-1])
    else:
        table["largest"], table["query_speaker"] = 0, ""
    table[["shared", "largest"]] = table[["shared", "largest"]].fillna(0).astype(int)
    table["query_speaker"] = table["query_speaker"].fillna("")
    return table.reset_index().sort_values(["largest", "words"], ascending=False, kind="stable")


def shared_words(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Number of words that each pair of speakers shares, (speaker, speaker); the diagonal counts a speaker's own words.

    At most `most` speakers are included, those of the languages with most shared words first.
    """
    texts = _distinct_texts(rows)
    others = texts.groupby(["language", "text"])["speaker"].transform("nunique") > 1
    rank = texts[others].groupby("language").size().sort_values(ascending=False, kind="stable")
    chosen: list[tuple[str, str]] = []
    for language in rank.index:
        own = texts[others & (texts["language"] == language)].groupby("speaker").size()
        own = own.sort_values(ascending=False, kind="stable")
        chosen += [(str(language), str(speaker)) for speaker in own.index[: most - len(chosen)]]
    names = [f"{speaker} ({language})" for language, speaker in chosen]
    words = [_words(texts, language, speaker) for language, speaker in chosen]
    return pd.DataFrame([[len(a & b) for b in words] for a in words], index=names, columns=names)


def _words(texts: pd.DataFrame, language: str, speaker: str) -> set[tuple[str, str]]:
    own = texts[(texts["language"] == language) & (texts["speaker"] == speaker)]
    return set(zip(own["language"], own["text"], strict=True))


def _distinct_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """Each text of each speaker once, without concepts, which are not what is said."""
    known = (rows["text"].str.strip() != "") & (rows["text_kind"] != "concept")
    texts = rows.loc[known, ["language", "split", "speaker", "text"]]
    return texts.drop_duplicates(["language", "speaker", "text"]).sort_values(["language", "speaker", "text"])


def _sample(rows: pd.DataFrame) -> pd.DataFrame:
    """A few clips of each speaker, always the same, spread over all of the speaker's clips in the order of their paths."""
    measured = rows[(rows["bandwidth_hz"] > 0) & (rows["sample_rate"] > 0)].sort_values(["speaker", "path"])
    counts = measured["speaker"].value_counts()
    speakers = counts[counts >= MIN_CLIPS].index[: MAX_TOTAL // MIN_CLIPS]
    measured = measured[measured["speaker"].isin(speakers)]
    each = max(MIN_CLIPS, min(MAX_CLIPS, MAX_TOTAL // max(1, len(speakers))))
    place = measured.groupby("speaker").cumcount()
    count = measured["speaker"].map(counts)
    step = np.maximum(count.astype(float) / each, 1.0)
    return measured[(place / step).astype(int) > ((place - 1) / step).where(place > 0, -1).astype(int)]


def _points(clips: pd.DataFrame) -> np.ndarray:
    """Channel features (clip, feature), each with mean 0 and standard deviation 1."""
    features = np.column_stack(
        [
            np.log(clips["sample_rate"].to_numpy(float)),
            np.log(clips["bandwidth_hz"].clip(lower=100)),
            np.log10(clips["dc_offset"].clip(lower=1e-6)),
            clips["rms_db"] - clips["snr_db"],
            clips["rms_db"],
        ]
    )
    features = np.nan_to_num(features)
    return (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)


def _guess(points: np.ndarray, speakers: np.ndarray, some: np.ndarray) -> np.ndarray:
    """The speaker (clip,) with most votes of the nearest other clips, weighted by rank."""
    distance = ((points[some, None, :] - points[None]) ** 2).sum(axis=2)
    distance[np.arange(len(some)), some] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, : min(NEAREST, len(points) - 1)]
    votes = np.zeros((len(some), speakers.max() + 1))
    for rank in range(nearest.shape[1]):
        np.add.at(votes, (np.arange(len(some)), speakers[nearest[:, rank]]), 1 / (rank + 1))
    guess: np.ndarray = votes.argmax(axis=1)
    return guess


def _most(values: "pd.Series") -> object:
    """The most frequent value; the smallest of several."""
    counts = Counter(values.dropna().tolist())
    return min(counts, key=lambda value: (-counts[value], value))
