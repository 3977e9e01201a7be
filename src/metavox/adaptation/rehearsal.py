"""General speech: what a recogniser could do before it was adapted, to be rehearsed meanwhile and judged afterwards.

Rehearsal needs no transcripts: the base's own are learned again (pseudo-rehearsal, Robins 1995), which asks the adapted
recogniser to stay as it was where nothing was to change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from metavox.adaptation.fine_tune import Recordings
from metavox.adaptation.loops import loops
from metavox.adaptation.sentences import SENTENCES
from metavox.audio.classical import coloured
from metavox.audio.read import decode, read_audio, resample
from metavox.dataset.manifest import read_manifest, resolve
from metavox.errors import UserError
from metavox.recognisers.recogniser import Recogniser
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.espeak import SynthesisConfig, Text
from metavox.sources.synthetic.languages import find_language
from metavox.sources.synthetic.words import words_of
from metavox.text import normalise_text

REHEARSED, JUDGED = 40, 40  # recordings
NOISES, NOISE_S, NOISE_DB = 12, (1.0, 8.0), (-60.0, -20.0)
FEWEST = 10  # of either
SHORTEST_S, LONGEST_S = 1.0, 12.0
SEED = 12
VOICES = 8  # of espeak-ng
WORDS_SAID = 5  # of a sentence that espeak-ng says


@dataclass(frozen=True)
class Rehearsal:
    """Samples (time,) to rehearse; samples of other speakers to estimate_errors by, with what is said in them. `source` tells
    people whose speech it is."""

    samples: Sequence[np.ndarray]
    judged: Sequence[np.ndarray]
    judged_texts: Sequence[str]
    source: str

    def heard_by(self, recogniser: Recogniser) -> Recordings:
        """What is rehearsed, prepared, with what the recogniser itself hears in it; without what it hears nothing in,
        or loses itself in. Noise is rehearsed beside it, with nothing to write."""
        audio = recogniser.prepare(self.samples)
        texts = [transcript.text for transcript in recogniser.transcribe(audio)]
        kept = [i for i, text in enumerate(texts) if recogniser.writable(text) and not loops(text)]
        rate = recogniser.spec.sample_rate_hz
        longest = round(recogniser.spec.longest_s * rate)
        noise = recogniser.prepare([clip[:longest] for clip in noises(rate)])
        return Recordings(
            [*(audio[i] for i in kept), *noise], [*(texts[i] for i in kept), *[""] * len(noise)]
        )


def noises(rate: int) -> list[np.ndarray]:
    """Silence, steady noise of several slopes and levels, and mains hum, samples (time,) at `rate` Hz."""
    random = np.random.default_rng(SEED)
    clips = []
    for number in range(NOISES):
        time = np.arange(round(random.uniform(*NOISE_S) * rate)) / rate
        level = 10 ** (random.uniform(*NOISE_DB) / 20)
        hum = sum(np.sin(2 * np.pi * random.choice((50, 60)) * k * time) / k for k in range(1, 6))
        shapes = (0.0 * time, coloured(len(time), random.uniform(0, 6), rate, random), hum)
        clips.append((level * shapes[number % len(shapes)]).astype(np.float32))
    return clips


def general_speech(language: str, rate: int, corpus: Path = Path("data")) -> Rehearsal | None:
    """Sentences at `rate` Hz of a language that the base knows: from the corpus in the folder `corpus`, never its test
    speakers; where it has none, spoken by espeak-ng; None where that speaks no such language."""
    manifest = corpus / "manifest.csv"
    if manifest.is_file() and (found := _of_corpus(manifest, language, rate)):
        return found
    return _of_espeak(language, rate)


def _of_corpus(manifest: Path, language: str, rate: int) -> Rehearsal | None:
    rows = read_manifest(manifest)
    rows = rows[
        (rows["language"] == language)
        & (rows["unit"] == "sentence")
        & rows["text_kind"].isin(("spoken", ""))
        & rows["split"].isin(("train", "dev"))
        & rows["duration_s"].between(SHORTEST_S, LONGEST_S)
        & rows["text"].map(lambda text: bool(normalise_text(text)))
    ]
    if len(rows) < 2 * FEWEST:
        return None
    if not rows["synthetic"].all():
        rows = rows[~rows["synthetic"]]
    rows = rows.assign(
        speaker_group=rows["speaker_group"].where(rows["speaker_group"] != "", rows["speaker"])
    )
    others = _other_speakers(rows)
    rehearsed, judged = _spread(rows[~others], REHEARSED), _spread(rows[others], JUDGED)
    if min(len(rehearsed), len(judged)) < FEWEST:
        return None

    def read(some: pd.DataFrame) -> list[np.ndarray]:
        return [read_audio(resolve(manifest, str(path)), rate) for path in some["path"]]

    return Rehearsal(
        read(rehearsed),
        read(judged),
        judged["text"].tolist(),
        f"sentences of {language} in the corpus {manifest.parent}",
    )


def _other_speakers(rows: pd.DataFrame) -> pd.Series:
    """Which sentences to estimate_errors by: those of development speakers, else of a third of the people; of one person alone,
    every other sentence."""
    other = rows["split"] == "dev"
    if other.sum() >= FEWEST:
        return other
    people = sorted(set(rows["speaker_group"]))
    if len(people) == 1:
        return pd.Series(np.arange(len(rows)) % 2 == 1, rows.index)
    random = np.random.default_rng(SEED)
    return rows["speaker_group"].isin(random.choice(people, max(1, len(people) // 3), replace=False)) | other


def _spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows, as evenly over people as there are."""
    mixed = rows.sample(frac=1.0, random_state=SEED)
    turn = mixed.groupby("speaker_group").cumcount()
    return mixed.loc[turn.sort_values(kind="stable").index[:count]]


def _of_espeak(language: str, rate: int) -> Rehearsal | None:
    """Neither what is said nor the voices that are judged by are those of rehearsal."""
    try:
        code = find_language(language)
        texts = list(SENTENCES.get(language, ())) or _words(language)
    except UserError:
        return None
    voices = espeak.some_variants(2 * VOICES, SEED)
    rehearsed, _ = _spoken(texts[::2], REHEARSED, code, voices[::2], rate)
    judged, said = _spoken(texts[1::2], JUDGED, code, voices[1::2], rate)
    if min(len(rehearsed), len(judged)) < FEWEST:
        return None
    return Rehearsal(rehearsed, judged, said, f"{VOICES} voices of {language} by espeak-ng")


def _words(language: str) -> list[str]:
    """Everyday words of a language, some at a time. Raises UserError where none are known."""
    random = np.random.default_rng(SEED)
    words = words_of(language, WORDS_SAID * (REHEARSED + JUDGED), SEED)
    return [
        ", ".join(random.choice(words, min(WORDS_SAID, len(words)), replace=False))
        for _ in range(REHEARSED + JUDGED)
    ]


def _spoken(
    texts: Sequence[str], count: int, code: str, voices: tuple[str, ...], rate: int
) -> tuple[list[np.ndarray], list[str]]:
    """Samples (time,) at `rate` of `count` renditions, and what is said in them; fewer where there are no sounds for some."""
    config = SynthesisConfig(voices=voices, renditions=max(1, count // len(texts)), seed=SEED)
    planned = espeak.plan([Text(text, code, "sentence") for text in texts], config)[:count]
    found = list(espeak.recordings(planned, unspoken=[]))
    return [resample(*decode(one.data, one.name), rate) for one in found], [one.text for one in found]
