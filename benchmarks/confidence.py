"""Measure how far the confidences of words are from the share of words that are right.

    python benchmarks/confidence.py [--base whisper-tiny.en] [--split test] [--delta FOLDER]

Run it from the project folder, with the corpus of `make demo` in data/. The words are those of English sentences of one split; a word
is right if the alignment of transcript and reference with the fewest edits has the same word there. ECE is the expected calibration error
over ten bins of equal size (Guo et al. 2017), with a bootstrap over sentences.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np

from metavox import threads
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.intervals import bootstrap_interval
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import load_delta
from metavox.session import session_on
from metavox.text import normalise_text

RATE, BINS, DRAWS = 16000, 10, 300


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--delta", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    threads.limit("foundation model")
    rows = read_manifest(args.data / "manifest.csv")
    rows = rows[(rows["split"] == args.split) & (rows["language"] == "en") & (rows["unit"] == "sentence")]
    session = session_on(find_base(args.base).load())
    if args.delta:
        session = session.using([load_delta(args.delta)])
    session = replace(session, options=replace(session.options, word_times=True))
    clips = [read_audio(args.data / path, RATE) for path in rows["path"]]
    sentences = []
    for text, transcript in zip(rows["text"], session.transcribe_all(clips), strict=True):
        words = [w for segment in transcript.segments for w in segment.words if normalise_text(w.text)]
        if words and normalise_text(text):
            sentences.append((np.array([w.confidence for w in words]), right(text, [w.text for w in words])))
    confidence, hits = (np.concatenate([pair[i] for pair in sentences]) for i in (0, 1))
    random = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        chosen = random.integers(len(sentences), size=len(sentences))
        draws.append(error(*(np.concatenate([sentences[i][k] for i in chosen]) for k in (0, 1))))
    ece = bootstrap_interval(error(confidence, hits), draws, len(sentences))
    print(
        f"{args.base}, {args.split}: {len(hits)} words, right {hits.mean():.1%}, mean confidence {confidence.mean():.1%}, "
        f"ECE {ece}%"
    )


def right(reference: str, words: list[str]) -> np.ndarray:
    """Whether each word is the one that the reference has there (words,)."""
    said = normalise_text(reference).split()
    heard = [normalise_text(word).replace(" ", "") for word in words]
    aligned = jiwer.process_words([" ".join(said)], [" ".join(heard)]).alignments[0]
    out = np.zeros(len(heard))
    for chunk in aligned:
        if chunk.type == "equal":
            out[chunk.hyp_start_idx : chunk.hyp_end_idx] = 1.0
    return out


def error(confidence: np.ndarray, hits: np.ndarray) -> float:
    order = np.argsort(confidence)
    bins = zip(np.array_split(confidence[order], BINS), np.array_split(hits[order], BINS), strict=True)
    return float(sum(len(c) * abs(c.mean() - h.mean()) for c, h in bins) / len(hits))


if __name__ == "__main__":
    main()
