"""What is synthetic speech worth for a new word? One recording of each word, against one and 50 synthetic ones.

    python benchmarks/synthetic_words.py MANIFEST [--synthetic FOLDER] [--count 50] [--draws 10]

MANIFEST lists recordings of words by many speakers (path, text), such as Picovoice's wake-word benchmark. Half of the words are
enrolled, the others are unknown, and the halves change places. Each draw takes one recording of each word, and tests all
others. The synthetic recordings are espeak-ng's, or, with --synthetic, of a folder that `metavox corpus speak --tts` wrote.
"At 1%": recognised, and above the threshold that 1% of the unknown words reach. Intervals are over the draws.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metavox import threads
from metavox.audio.read import decode, read_audio
from metavox.audio.trim import word_in
from metavox.enrolment.enrol import EnrolConfig, enrol
from metavox.intervals import mean_interval
from metavox.recognisers.recogniser import Audio, WordEmbedder
from metavox.session import open_for_words
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.espeak import SynthesisConfig, Text

RATE = 16000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--embedder")
    parser.add_argument("--synthetic", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--draws", type=int, default=10)
    args = parser.parse_args()
    threads.limit("small network")
    embedder = open_for_words(args.embedder).embedder
    rows = pd.read_csv(args.manifest)
    words = sorted(rows["text"].unique())
    real = {
        word: prepared(
            embedder, [read_audio(args.manifest.parent / p, RATE) for p in rows[rows["text"] == word]["path"]]
        )
        for word in words
    }
    encoded = {word: embedder.encode(clips) for word, clips in real.items()}
    made = {
        word: prepared(embedder, clips)
        for word, clips in synthetic(words, args.synthetic, args.count).items()
    }
    figures: dict[str, list[tuple[float, float]]] = {
        "1 recording": [],
        "1 and synthetic": [],
        "synthetic alone": [],
    }
    for draw in range(args.draws):
        random = np.random.default_rng(draw)
        half = random.permutation(len(words))[: len(words) // 2]
        enrolled = [words[i] for i in half]
        shots = {word: int(random.integers(len(real[word]))) for word in enrolled}
        for arm in figures:
            support = {
                word: ([real[word][shots[word]]] if arm != "synthetic alone" else [])
                + (made[word] if arm != "1 recording" else [])
                for word in enrolled
            }
            figures[arm].append(measured(embedder, support, encoded, shots))
    counts = sum(map(len, made.values())) / len(made)
    print(
        f"{embedder.spec.name}: {len(words)} words, {args.draws} draws, {counts:.0f} synthetic recordings of each word"
    )
    for arm, values in figures.items():
        accuracy, open_set = (mean_interval([pair[i] for pair in values]) for i in (0, 1))
        print(f"  {arm:16s} accuracy {accuracy}%, at 1% {open_set}%")


def measured(
    embedder: WordEmbedder,
    support: dict[str, list[Audio]],
    real: dict[str, list[Audio]],
    shots: dict[str, int],
) -> tuple[float, float]:
    labels = [word for word, clips in support.items() for _ in clips]
    delta = enrol(
        embedder, [clip for clips in support.values() for clip in clips], labels, EnrolConfig("prototypes")
    )
    vocabulary = delta.vocabulary
    assert vocabulary is not None

    def scored(clips: list[Audio]) -> tuple[torch.Tensor, torch.Tensor]:
        best = embedder.score_words(vocabulary, clips).max(dim=1)
        return best.values, best.indices

    unknown = torch.cat([scored(clips)[0] for word, clips in real.items() if word not in support])
    threshold = float(unknown.quantile(0.99))
    right, accepted = [], []
    for word in support:
        clips = [clip for i, clip in enumerate(real[word]) if i != shots[word]]
        values, found = scored(clips)
        hits = found == vocabulary.words.index(word)
        right += hits.tolist()
        accepted += (hits & (values > threshold)).tolist()
    return float(np.mean(right)), float(np.mean(accepted))


def prepared(embedder: WordEmbedder, clips: list[np.ndarray]) -> list[Audio]:
    return embedder.prepare([word_in(clip, RATE, embedder.margin_s)[0] for clip in clips])


def synthetic(words: list[str], folder: Path | None, count: int) -> dict[str, list[np.ndarray]]:
    if folder:
        rows = pd.read_csv(folder / "manifest.csv")
        return {
            word: [read_audio(folder / path, RATE) for path in rows[rows["text"] == word]["path"].head(count)]
            for word in words
        }
    out = {}
    for word in words:
        planned = espeak.plan([Text(word, "en-us")], SynthesisConfig(renditions=count))
        out[word] = [decode(one.data, one.name)[0] for one in espeak.recordings(planned, unspoken=[])]
    return out


if __name__ == "__main__":
    main()
