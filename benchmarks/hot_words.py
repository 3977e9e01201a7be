"""Measure what hot words and a language model of the user's own texts change: rare words found, and other words broken.

    python benchmarks/hot_words.py [--base whisper-tiny.en] [--split dev] [--weights 0,0.5,1,2] [--distractors 100]

Run it from the project folder, with the corpus of `make demo` in data/. The clips are English sentences of one split. The hot
words are the words of these sentences that occur in at most two of the corpus's English sentences and have six letters or more, and as many
others from sentences of training speakers as --distractors says, which nobody says here. Each line of the table is one weight:

- recall: hot words that were said and are in the transcript of their sentence
- false: hot words in transcripts that were not said, per 100 sentences
- WER of the other words: hot words are taken out of references and transcripts first

The line `texts` is a language model of the training speakers' sentences in place of hot words.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from metavox import threads
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.intervals import wilson
from metavox.metrics.rates import word_errors
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.guide import Guide
from metavox.recognisers.recogniser import DecodeOptions
from metavox.recognition.hot_words import HotWords
from metavox.recognition.language_model import LanguageModel, estimate
from metavox.text import normalise_text

RATE, MIN_LETTERS, MAX_SENTENCES, BEAM = 16000, 6, 2, 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--split", default="dev")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--weights", default="0,0.5,1,2")
    parser.add_argument("--distractors", type=int, default=100)
    args = parser.parse_args()
    threads.limit("foundation model")
    rows = read_manifest(args.data / "manifest.csv")
    rows = rows[(rows["language"] == "en") & (rows["unit"] == "sentence")]
    chosen = rows[rows["split"] == args.split].sample(frac=1, random_state=0).head(args.clips)
    texts = [normalise_text(text) for text in chosen["text"]]
    rare, others = rare_words(rows, args.split, texts)
    distractors = others[: args.distractors]
    said = sum(len(set(text.split()) & rare) for text in texts)
    clips = [read_audio(args.data / path, RATE) for path in chosen["path"]]
    recogniser = find_base(args.base).load()
    print(
        f"{recogniser.spec.name}, {args.split}: {len(clips)} sentences with {said} occurrences of {len(rare)} hot words, and "
        f"{len(distractors)} hot words that nobody says"
    )
    print("  weight   recall               false   WER of the other words")
    arms: list[tuple[str, Guide | None]] = [
        (weight, HotWords([*sorted(rare), *distractors], float(weight)) if float(weight) else None)
        for weight in args.weights.split(",")
    ]
    training = rows[rows["split"] == "train"]["text"].tolist()
    arms.append(("texts", LanguageModel([estimate(training)])))
    for name, guide in arms:
        options = DecodeOptions(beam=BEAM if guide or name == "0" else 1, guide=guide)
        found = [normalise_text(t.text) for t in recogniser.transcribe(clips, options)]
        report(name, texts, found, rare | set(distractors), said)


def report(name: str, texts: list[str], found: list[str], hot: set[str], said: int) -> None:
    right = false = 0
    for text, transcript in zip(texts, found, strict=True):
        want, got = (
            Counter(w for w in text.split() if w in hot),
            Counter(w for w in transcript.split() if w in hot),
        )
        right += len(set(want) & set(got))
        false += sum((got - want).values())
    without = [
        [" ".join(w for w in text.split() if w not in hot) for text in side] for side in (texts, found)
    ]
    errors = word_errors(*without).interval()
    print(f"  {name:8s} {wilson(right, said)!s:20s} {100 * false / len(texts):5.1f}   {errors}%", flush=True)


def rare_words(rows: pd.DataFrame, split: str, texts: list[str]) -> tuple[set[str], list[str]]:
    """Rare words of the texts, and rare words that are in none of them, in a random order."""
    counts = Counter(word for text in rows["text"] for word in set(normalise_text(text).split()))
    rare = {
        word
        for word, n in counts.items()
        if n <= MAX_SENTENCES and len(word) >= MIN_LETTERS and word.isalpha()
    }
    here = {word for text in texts for word in text.split()}
    elsewhere = sorted(rare - here)
    return rare & here, list(np.random.default_rng(0).permutation(elsewhere))


if __name__ == "__main__":
    main()
