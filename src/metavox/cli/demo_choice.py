"""The demo's held-out speakers, sentences and words, chosen by fixed rules and never by their results."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from metavox.audio.adverse import phone
from metavox.audio.read import read_audio
from metavox.errors import UserError

WORDS, MAX_WORD_S = 5, 2.0
SENTENCES, MIN_SENTENCE_S = 20, 1.0
RATE = 16000

Clip = tuple[str, bytes]  # file name, content


def choose_speaker(rows: pd.DataFrame, support: dict[str, list[str]]) -> str:
    """The adapted test speaker with the most recorded speech. Raises UserError if there is none."""
    own = rows[rows["speaker"].isin(support)]
    if own.empty:
        raise UserError("no adapted test speaker is in the validated manifest; run `metavox stage adapt`")
    return str(own.groupby("speaker")["duration_s"].sum().idxmax())


def sentences_of(rows: pd.DataFrame, speaker: str, support: list[str]) -> pd.DataFrame:
    """The speaker's sentences whose texts are not in the support recordings, evenly spaced by path.

    Raises UserError if there is none.
    """
    texts = set(rows.loc[rows["path"].isin(support), "said"].str.lower())
    own = rows[
        (rows["speaker"] == speaker) & (rows["unit"] == "sentence") & (rows["duration_s"] >= MIN_SENTENCE_S)
    ]
    fresh = own[~own["said"].str.lower().isin(texts)].sort_values("path").drop_duplicates("said")
    if fresh.empty:
        raise UserError(
            f"{speaker} has no sentence outside the support recordings; add recordings, or lower adapt's share of them"
        )
    return fresh.iloc[
        np.unique(np.linspace(0, len(fresh) - 1, min(SENTENCES, len(fresh))).round().astype(int))
    ]


def shared_words(rows: pd.DataFrame) -> pd.DataFrame:
    """Short recordings of the words that two test speakers of one language both say, one per speaker and word.

    The two speakers are those that share the most words; neither is in the training data. The one with more
    recordings comes first and enrols the words. Raises UserError if they share fewer than WORDS words.
    """
    test = rows[(rows["split"] == "test") & (rows["text_kind"] != "concept")]
    test = test[(test["duration_s"] <= MAX_WORD_S) & (test["said"] != "")]
    usable = test[test["unit"] == "word"] if (test["unit"] == "word").any() else test
    usable = usable.assign(word=usable["said"].str.lower())
    usable = usable.sort_values("path").drop_duplicates(["language", "speaker", "word"])
    best: tuple[int, list[str], set[str], str] = (0, [], set(), "")
    for language, own in usable.groupby("language"):
        by_speaker = {str(speaker): set(clips["word"]) for speaker, clips in own.groupby("speaker")}
        speakers = sorted(by_speaker, key=lambda v: (-len(by_speaker[v]), v))
        for i, first in enumerate(speakers):
            for second in speakers[i + 1 :]:
                both = by_speaker[first] & by_speaker[second]
                if len(both) > best[0]:
                    best = (len(both), [first, second], both, str(language))
    count, speakers, both, language = best
    if count < WORDS:
        raise UserError(
            f"no two test speakers share more than {count} words; expected {WORDS} to enrol; add recordings"
        )
    shared = usable[
        usable["word"].isin(both) & usable["speaker"].isin(speakers) & (usable["language"] == language)
    ]
    order = {speaker: i for i, speaker in enumerate(speakers)}
    return shared.sort_values(["speaker", "word"], key=lambda c: c.map(order) if c.name == "speaker" else c)


def some_words(shared: pd.DataFrame) -> list[str]:
    """WORDS of the shared words, evenly spaced in alphabetical order."""
    words = sorted(set(shared["word"]))
    return [words[(2 * i + 1) * len(words) // (2 * WORDS)] for i in range(WORDS)]


def through_telephone(path: str, seed: int) -> Clip:
    """A recording of `data/` through a GSM line with noise and lost packets, as a FLAC file."""
    samples = phone(read_audio(Path("data") / path, RATE), RATE, np.random.default_rng(seed), [])
    out = io.BytesIO()
    soundfile.write(out, np.clip(samples, -1, 1), RATE, format="FLAC")
    return f"{Path(path).stem}.flac", out.getvalue()
