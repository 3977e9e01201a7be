"""Measure how far word times differ from a forced alignment by PocketSphinx.

    pip install pocketsphinx==5.1.1
    python benchmarks/word_times.py [--base whisper-tiny.en] [--clips 150] [--delta FOLDER]

Run it from the project folder, with the corpus of `make demo` in data/. The clips are English sentences of test speakers.
PocketSphinx aligns the reference text in frames of 10 ms, with its own acoustic model and dictionary; it uses neither
attention nor CTC, and it makes errors too. The comparison covers the clips whose words were all transcribed correctly and
are all in that dictionary.

One line for the starts of words and one for their ends give the median and the 90th percentile of the absolute difference, the share
of words within 80 ms, and the median of the signed difference (positive: metavox is later).
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from metavox import threads
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import load_delta
from metavox.recognisers.recogniser import DecodeOptions
from metavox.recognisers.transcript import Transcript
from metavox.session import session_on
from metavox.text import normalise_text

RATE = 16000
FRAME_S = 0.01
BOUND_S = 0.08

Times = list[tuple[str, float, float]]
"""Words with start and end in seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--delta", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--clips", type=int, default=150)
    args = parser.parse_args()
    try:
        import pocketsphinx  # noqa: F401
    except ImportError:
        parser.exit(2, "pocketsphinx is not installed; run pip install pocketsphinx==5.1.1\n")
    threads.limit("foundation model")
    base = find_base(args.base).load()
    if args.delta:
        base = base.using([load_delta(args.delta)])
    rows = read_manifest(args.data / "manifest.csv")
    rows = rows[(rows["split"] == "test") & (rows["language"] == "en") & (rows["unit"] == "sentence")]
    rows = rows.sample(frac=1, random_state=0).head(args.clips)
    clips = [read_audio(args.data / path, RATE) for path in rows["path"]]
    session = replace(session_on(base), options=DecodeOptions(word_times=True))
    transcripts = session.transcribe_all(clips)
    starts, ends, compared = [], [], 0
    for clip, text, transcript in zip(clips, rows["text"], transcripts, strict=True):
        words, reference = word_times(transcript), normalise_text(text).split()
        if [word for word, *_ in words] != reference or not (aligned := force_aligned(clip, reference)):
            continue
        compared += 1
        starts += [word[1] - other[1] for word, other in zip(words, aligned, strict=True)]
        ends += [word[2] - other[2] for word, other in zip(words, aligned, strict=True)]
    print(f"{base.spec.name}: {compared} of {len(clips)} clips compared, {len(starts)} words")
    print_differences("starts", np.array(starts))
    print_differences("ends", np.array(ends))


def print_differences(name: str, differences_s: np.ndarray) -> None:
    absolute = np.abs(differences_s)
    print(
        f"  {name:6s} median difference {1000 * np.median(absolute):.0f} ms, "
        f"90th percentile {1000 * np.quantile(absolute, 0.9):.0f} ms, "
        f"{(absolute <= BOUND_S).mean():.0%} within {1000 * BOUND_S:.0f} ms; "
        f"signed median {1000 * np.median(differences_s):+.0f} ms"
    )


def word_times(transcript: Transcript) -> Times:
    words = [
        (normalise_text(word.text), word.start_s, word.end_s)
        for segment in transcript.segments
        for word in segment.words
    ]
    return [word for word in words if word[0]]


def force_aligned(samples: np.ndarray, words: list[str]) -> Times:
    """PocketSphinx's alignment without silences; empty if its dictionary lacks a word or it finds no path."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE, loglevel="FATAL", bestpath=False)
    if any(decoder.lookup_word(word) is None for word in words):
        return []
    try:
        decoder.set_align_text(" ".join(words))
        decoder.start_utt()
        decoder.process_raw(
            (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), no_search=False, full_utt=True
        )
        decoder.end_utt()
        aligned = [
            (segment.word.partition("(")[0], segment.start_frame * FRAME_S, (segment.end_frame + 1) * FRAME_S)
            for segment in decoder.seg()
            if not segment.word.startswith(("<", "["))
        ]
    except (RuntimeError, TypeError):  # no path through the text
        return []
    return aligned if [word for word, *_ in aligned] == words else []


if __name__ == "__main__":
    main()
