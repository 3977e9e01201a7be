"""How far the times of words are from a forced alignment. From the project's folder:

    pip install pocketsphinx==5.1.1
    python benchmarks/word_times.py [--base whisper-tiny.en] [--clips 150] [--delta FOLDER]

Clips are English sentences of test speakers (`make demo` builds data/). PocketSphinx aligns the text that was said, by its
own acoustic model and dictionary, in frames of 10 ms; it is neither attention nor CTC, and errs too. Compared are clips in
which all words were transcribed right and are in its dictionary.
"""

import argparse
from pathlib import Path

import numpy as np

from metavox import threads
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import load_delta
from metavox.recognisers.recogniser import DecodeOptions
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
    given = parser.parse_args()
    try:
        import pocketsphinx  # noqa: F401
    except ImportError:
        parser.exit(2, "pocketsphinx is not installed; pip install pocketsphinx==5.1.1\n")
    threads.limit("foundation model")
    base = find_base(given.base).load()
    if given.delta:
        base = base.using([load_delta(given.delta)])
    rows = read_manifest(given.data / "manifest.csv")
    rows = rows[(rows["split"] == "test") & (rows["language"] == "en") & (rows["unit"] == "sentence")]
    rows = rows.sample(frac=1, random_state=0).head(given.clips)
    clips = [read_audio(given.data / path, RATE) for path in rows["path"]]
    heard = base.transcribe(clips, DecodeOptions(word_times=True))
    starts, ends, compared = [], [], 0
    for clip, text, transcript in zip(clips, rows["text"], heard, strict=True):
        words = [(normalise_text(w.text), w.start_s, w.end_s) for s in transcript.segments for w in s.words]
        words = [word for word in words if word[0]]
        said = normalise_text(text).split()
        if [word for word, *_ in words] != said or not (aligned := force_aligned(clip, said)):
            continue
        compared += 1
        starts += [mine[1] - theirs[1] for mine, theirs in zip(words, aligned, strict=True)]
        ends += [mine[2] - theirs[2] for mine, theirs in zip(words, aligned, strict=True)]
    print(f"{base.spec.name}: {compared} of {len(clips)} clips compared, {len(starts)} words")
    for what, apart in (("starts", np.array(starts)), ("ends", np.array(ends))):
        off = np.abs(apart)
        print(
            f"  {what:6s} apart: median {1000 * np.median(off):.0f} ms, 90% within {1000 * np.quantile(off, 0.9):.0f} ms, "
            f"{(off <= BOUND_S).mean():.0%} within {1000 * BOUND_S:.0f} ms; median of the difference {1000 * np.median(apart):+.0f} ms"
        )


def force_aligned(samples: np.ndarray, words: list[str]) -> Times:
    """By PocketSphinx, with silences left out; empty where it lacks a word or finds no path."""
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
        found = [
            (seg.word.partition("(")[0], seg.start_frame * FRAME_S, (seg.end_frame + 1) * FRAME_S)
            for seg in decoder.seg()
            if not seg.word.startswith(("<", "["))
        ]
    except (RuntimeError, TypeError):  # no path through the text
        return []
    return found if [word for word, *_ in found] == words else []


if __name__ == "__main__":
    main()
