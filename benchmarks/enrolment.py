"""Measure the enrolment of ten words: accuracy, false accepts, calibration error and time.

    python benchmarks/enrolment.py MANIFEST --base FOLDER --shots 5 --speakers 1 --false-accepts 0.01

MANIFEST is any manifest with speakers. Each round draws ten words, the speaker of the queries, and `--speakers` other
speakers whose clips teach the words; with 0, other clips by the speaker of the queries teach them. Unknown words are that
speaker's clips of all other words. Each line gives a mean and a median over rounds:

    accuracy                 share of queries whose best word is correct
    accepted and correct     share of queries that are correct and reach the threshold
    false accepts            share of unknown words that reach the threshold
    at the exact threshold   accepted and correct, at the threshold that gives exactly --false-accepts
    calibration error        expected calibration error of the confidences
    seconds                  time to read the clips and enrol the words
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch

from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest, resolve
from metavox.enrolment.enrol import EnrolConfig, enrol
from metavox.enrolment.open_set import reliability
from metavox.recognisers.recogniser import Audio, WordEmbedder
from metavox.session import open_for_words

WAY, QUERIES, UNKNOWN = 10, 5, 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest")
    parser.add_argument("--base")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--speakers", type=int, default=1)
    parser.add_argument("--false-accepts", type=float, default=0.01)
    parser.add_argument("--method", default="head")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-spelling", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    embedder = open_for_words(args.base).embedder
    rows = read_manifest(args.manifest)
    random = np.random.default_rng(0)
    rounds = [measure(embedder, rows, args, random) for _ in range(args.rounds)]
    for name in rounds[0]:
        values = [figures[name] for figures in rounds]
        print(f"{name:22s}  mean {np.mean(values):.3f}  median {np.median(values):.3f}")


def measure(
    embedder: WordEmbedder, rows: pd.DataFrame, args: argparse.Namespace, random: np.random.Generator
) -> dict[str, float]:
    """The figures of one round."""
    config = EnrolConfig(args.method, false_accepts=args.false_accepts, spelling=not args.no_spelling)
    support, queries, unknown = draw(rows, args.shots, args.speakers, random)

    def load(selected: list[int]) -> list[Audio]:
        paths = [resolve(args.manifest, rows.at[row, "path"]) for row in selected]
        return embedder.prepare([read_audio(path, embedder.spec.sample_rate_hz) for path in paths])

    start = time.perf_counter()
    vocabulary = enrol(embedder, load(support), rows.loc[support, "text"].tolist(), config).vocabulary
    seconds = time.perf_counter() - start
    scores = embedder.score_words(vocabulary, load(queries))
    best, predicted = scores.max(dim=1)
    correct = np.array([vocabulary.words[i] for i in predicted]) == rows.loc[queries, "text"].to_numpy()
    unknown_scores = embedder.score_words(vocabulary, load(unknown)).amax(dim=1)
    exact_threshold = unknown_scores.double().quantile(1 - args.false_accepts)
    confidence = (vocabulary.logit_scale * scores).softmax(dim=1).amax(dim=1)
    return {
        "accuracy": correct.mean(),
        "accepted and correct": (correct & (best >= vocabulary.threshold).numpy()).mean(),
        "false accepts": float((unknown_scores >= vocabulary.threshold).float().mean()),
        "at the exact threshold": (correct & (best > exact_threshold).numpy()).mean(),
        "calibration error": reliability(confidence.numpy(), correct).expected_error,
        "seconds": seconds,
    }


def draw(
    rows: pd.DataFrame, shots: int, teachers: int, random: np.random.Generator
) -> tuple[list[int], list[int], list[int]]:
    """Rows of the support clips, of the query clips, and of unknown words."""
    words = random.choice(sorted(set(rows["text"])), WAY, replace=False)
    speakers = random.permutation(sorted(set(rows["speaker"])))
    query_speaker = speakers[0]
    support, queries = [], []
    for word in words:
        of_word = rows["text"] == word
        clips = random.permutation(rows.index[of_word & (rows["speaker"] == query_speaker)])
        if teachers == 0:
            support += list(clips[:shots])
            clips = clips[shots:]
        else:
            taught = rows.index[of_word & rows["speaker"].isin(speakers[1 : 1 + teachers])]
            support += list(random.permutation(taught)[:shots])
        queries += list(clips[:QUERIES])
    unknown = rows.index[(rows["speaker"] == query_speaker) & ~rows["text"].isin(words)]
    return support, queries, list(random.permutation(unknown)[:UNKNOWN])


if __name__ == "__main__":
    main()
