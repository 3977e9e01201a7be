"""What the demo shows: speakers, sentences and words of the held-out ones, chosen by rule and never by how they went."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from metavox.audio.adverse import phone
from metavox.audio.read import read_audio
from metavox.errors import UserError

WORDS, LONGEST_WORD_S = 5, 2.0
SENTENCES, SHORTEST_S = 20, 1.0
RATE = 16000

Clip = tuple[str, bytes]  # file name, content


def speaker(rows: pd.DataFrame, support: dict[str, list[str]]) -> str:
    """The adapted test speaker with most recorded speech. Raises UserError where there is none."""
    own = rows[rows["speaker"].isin(support)]
    if own.empty:
        raise UserError("no adapted test speaker is in the validated manifest; run `metavox stage adapt`")
    return str(own.groupby("speaker")["duration_s"].sum().idxmax())


def sentences_of(rows: pd.DataFrame, who: str, taught: list[str]) -> pd.DataFrame:
    """Sentences of the speaker whose texts taught nothing, evenly apart by path. Raises UserError where there is none."""
    texts = set(rows.loc[rows["path"].isin(taught), "said"].str.lower())
    own = rows[(rows["speaker"] == who) & (rows["unit"] == "sentence") & (rows["duration_s"] >= SHORTEST_S)]
    fresh = own[~own["said"].str.lower().isin(texts)].sort_values("path").drop_duplicates("said")
    if fresh.empty:
        raise UserError(f"{who} has no sentence that was not taught; expected one to transcribe")
    return fresh.iloc[
        np.unique(np.linspace(0, len(fresh) - 1, min(SENTENCES, len(fresh))).round().astype(int))
    ]


def shared_words(rows: pd.DataFrame) -> pd.DataFrame:
    """Short recordings of the words that two test speakers of one language both say, one a speaker and word.

    The two speakers are those that share most words; none is in the training data. The speaker with more
    recordings comes first: it teaches.
    """
    test = rows[(rows["split"] == "test") & (rows["text_kind"] != "concept")]
    test = test[(test["duration_s"] <= LONGEST_WORD_S) & (test["said"] != "")]
    usable = test[test["unit"] == "word"] if (test["unit"] == "word").any() else test
    usable = usable.assign(word=usable["said"].str.lower())
    usable = usable.sort_values("path").drop_duplicates(["language", "speaker", "word"])
    best: tuple[int, list[str], set[str], str] = (0, [], set(), "")
    for language, own in usable.groupby("language"):
        by_speaker = {str(speaker): set(part["word"]) for speaker, part in own.groupby("speaker")}
        speakers = sorted(by_speaker, key=lambda v: (-len(by_speaker[v]), v))
        for i, first in enumerate(speakers):
            for second in speakers[i + 1 :]:
                both = by_speaker[first] & by_speaker[second]
                if len(both) > best[0]:
                    best = (len(both), [first, second], both, str(language))
    count, speakers, both, language = best
    if count < WORDS:
        raise UserError(f"two test speakers share {count} words at most; expected {WORDS} to enrol")
    chosen = usable[
        usable["word"].isin(both) & usable["speaker"].isin(speakers) & (usable["language"] == language)
    ]
    order = {speaker: i for i, speaker in enumerate(speakers)}
    return chosen.sort_values(["speaker", "word"], key=lambda c: c.map(order) if c.name == "speaker" else c)


def some_words(shared: pd.DataFrame) -> list[str]:
    """WORDS of the shared words, evenly apart in alphabetical order."""
    words = sorted(set(shared["word"]))
    return [words[(2 * i + 1) * len(words) // (2 * WORDS)] for i in range(WORDS)]


def through_telephone(path: str, seed: int) -> Clip:
    """A recording of `data/` over a GSM line with noise and lost packets, as a FLAC file."""
    samples = phone(read_audio(Path("data") / path, RATE), RATE, np.random.default_rng(seed), [])
    out = io.BytesIO()
    soundfile.write(out, np.clip(samples, -1, 1), RATE, format="FLAC")
    return f"{Path(path).stem}.flac", out.getvalue()
