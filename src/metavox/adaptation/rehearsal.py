"""General speech: to be rehearsed during adaptation, and to measure afterwards what was forgotten.

Rehearsal needs no reference texts: it uses the base model's own transcripts (pseudo-rehearsal, Robins 1995), so that the
adapted recogniser keeps the behaviour of the base model on other speech.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from metavox.adaptation.fine_tune import Recordings
from metavox.adaptation.repetition import has_loop
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

REHEARSED, HELD_OUT = 40, 40  # recordings
NOISES, NOISE_S, NOISE_DB = 12, (1.0, 8.0), (-60.0, -20.0)
MIN_RECORDINGS = 10  # to rehearse, and held out
SHORTEST_S, LONGEST_S = 1.0, 12.0
SEED = 12
VOICES = 8  # of espeak-ng, to rehearse and held out
WORDS_PER_UTTERANCE = 5  # for languages without sentences


@dataclass(frozen=True)
class Rehearsal:
    """`samples` (time,) to rehearse, and `held_out` samples with their texts, by other speakers if possible, to measure
    errors on. `source` describes in words where the speech comes from."""

    samples: Sequence[np.ndarray]
    held_out: Sequence[np.ndarray]
    held_out_texts: Sequence[str]
    source: str

    def prepared_for(self, recogniser: Recogniser) -> Recordings:
        """The prepared recordings to rehearse, with the recogniser's own transcripts, plus noise with empty texts.

        Recordings with an empty transcript or a repetition loop are left out, as are those that are too long to learn.
        """
        rate = recogniser.spec.sample_rate_hz
        longest = round(recogniser.spec.longest_s * rate)
        audio = recogniser.prepare([samples for samples in self.samples if len(samples) <= longest])
        texts = [transcript.text for transcript in recogniser.transcribe(audio)]
        usable = [i for i, text in enumerate(texts) if recogniser.writable(text) and not has_loop(text)]
        noise = recogniser.prepare([clip[:longest] for clip in noises(rate)])
        return Recordings(
            [*(audio[i] for i in usable), *noise], [*(texts[i] for i in usable), *[""] * len(noise)]
        )


def noises(rate: int) -> list[np.ndarray]:
    """Silence, steady noise of several slopes and levels, and mains hum: samples (time,) at `rate` Hz."""
    random = np.random.default_rng(SEED)
    clips = []
    for index in range(NOISES):
        time = np.arange(round(random.uniform(*NOISE_S) * rate)) / rate
        level = 10 ** (random.uniform(*NOISE_DB) / 20)
        hum = sum(np.sin(2 * np.pi * random.choice((50, 60)) * k * time) / k for k in range(1, 6))
        shapes = (0.0 * time, coloured(len(time), random.uniform(0, 6), rate, random), hum)
        clips.append((level * shapes[index % len(shapes)]).astype(np.float32))
    return clips


def general_speech(language: str, rate: int, corpus: Path = Path("data")) -> Rehearsal | None:
    """Sentences of a language, sampled at `rate` Hz.

    They come from the training and development speakers of the corpus in the folder `corpus`, otherwise from espeak-ng;
    None if espeak-ng does not speak the language.
    """
    manifest = corpus / "manifest.csv"
    if manifest.is_file() and (spoken := _from_corpus(manifest, language, rate)):
        return spoken
    return _from_espeak(language, rate)


def _from_corpus(manifest: Path, language: str, rate: int) -> Rehearsal | None:
    rows = read_manifest(manifest)
    rows = rows[
        (rows["language"] == language)
        & (rows["unit"] == "sentence")
        & rows["text_kind"].isin(("spoken", ""))
        & rows["split"].isin(("train", "dev"))
        & rows["duration_s"].between(SHORTEST_S, LONGEST_S)
        & rows["text"].map(lambda text: bool(normalise_text(text)))
    ]
    if len(rows) < 2 * MIN_RECORDINGS:
        return None
    if not rows["synthetic"].all():
        rows = rows[~rows["synthetic"]]
    rows = rows.assign(
        speaker_group=rows["speaker_group"].where(rows["speaker_group"] != "", rows["speaker"])
    )
    is_held_out = _held_out_rows(rows)
    rehearsed, held_out = (
        _spread_over_groups(rows[~is_held_out], REHEARSED),
        _spread_over_groups(rows[is_held_out], HELD_OUT),
    )
    if min(len(rehearsed), len(held_out)) < MIN_RECORDINGS:
        return None

    def read(subset: pd.DataFrame) -> list[np.ndarray]:
        return [read_audio(resolve(manifest, str(path)), rate) for path in subset["path"]]

    return Rehearsal(
        read(rehearsed),
        read(held_out),
        held_out["text"].tolist(),
        f"sentences in {language} from the corpus {manifest.parent}",
    )


def _held_out_rows(rows: pd.DataFrame) -> pd.Series:
    """Whether each sentence (rows,) is held out: those of development speakers, otherwise those of a third of the speaker
    groups, or every other sentence of a single group."""
    is_dev = rows["split"] == "dev"
    if is_dev.sum() >= MIN_RECORDINGS:
        return is_dev
    groups = sorted(set(rows["speaker_group"]))
    if len(groups) == 1:
        return pd.Series(np.arange(len(rows)) % 2 == 1, rows.index)
    random = np.random.default_rng(SEED)
    return rows["speaker_group"].isin(random.choice(groups, max(1, len(groups) // 3), replace=False)) | is_dev


def _spread_over_groups(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Draw `count` rows, spread as evenly as possible over speaker groups."""
    shuffled = rows.sample(frac=1.0, random_state=SEED)
    rank = shuffled.groupby("speaker_group").cumcount()
    return shuffled.loc[rank.sort_values(kind="stable").index[:count]]


def _from_espeak(language: str, rate: int) -> Rehearsal | None:
    """Speech by espeak-ng, with different texts and voices to rehearse and held out."""
    try:
        code = find_language(language)
        texts = list(SENTENCES.get(language, ())) or _words(language)
    except UserError:
        return None
    voices = espeak.some_variants(2 * VOICES, SEED)
    rehearsed, _ = _spoken(texts[::2], REHEARSED, code, voices[::2], rate)
    held_out, held_out_texts = _spoken(texts[1::2], HELD_OUT, code, voices[1::2], rate)
    if min(len(rehearsed), len(held_out)) < MIN_RECORDINGS:
        return None
    return Rehearsal(rehearsed, held_out, held_out_texts, f"{VOICES} espeak-ng voices in {language}")


def _words(language: str) -> list[str]:
    """Texts of several everyday words of a language. Raises UserError if none are known."""
    random = np.random.default_rng(SEED)
    words = words_of(language, WORDS_PER_UTTERANCE * (REHEARSED + HELD_OUT), SEED)
    return [
        ", ".join(random.choice(words, min(WORDS_PER_UTTERANCE, len(words)), replace=False))
        for _ in range(REHEARSED + HELD_OUT)
    ]


def _spoken(
    texts: Sequence[str], count: int, code: str, voices: tuple[str, ...], rate: int
) -> tuple[list[np.ndarray], list[str]]:
    """Samples (time,) at `rate` Hz of `count` renditions, and their texts; fewer if espeak-ng cannot say some texts."""
    config = SynthesisConfig(voices=voices, renditions=max(1, count // len(texts)), seed=SEED)
    planned = espeak.plan([Text(text, code, "sentence") for text in texts], config)[:count]
    spoken = list(espeak.recordings(planned, unspoken=[]))
    return [resample(*decode(recording.data, recording.name), rate) for recording in spoken], [
        recording.text for recording in spoken
    ]
