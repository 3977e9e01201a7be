"""Measure wake words in a stream: false accepts an hour at 95% detection, and the share of a core that listening takes.

    python benchmarks/spotting.py MANIFEST [--embedder NAME] [--shots 5] [--hours 1] [--words 6]

MANIFEST lists recordings of wake words (path, text), such as Picovoice's wake-word benchmark. Each word is enrolled alone from
--shots recordings; the others are put into a stream of English sentences of test and development speakers (data/ of `make
demo`), with pauses of a second, at the level of the sentences. Other speech for false accepts is more of these sentences, without the
word. A word counts as detected if it is reported within its recording.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from metavox import threads
from metavox.audio.read import read_audio
from metavox.audio.trim import word_in
from metavox.dataset.manifest import read_manifest
from metavox.enrolment.enrol import EnrolConfig, enrol
from metavox.recognisers.delta import Vocabulary
from metavox.recognisers.recogniser import WordEmbedder
from metavox.recognition.spotting import BATCH_S, Spotted, Spotter
from metavox.session import open_for_words

RATE, DETECTION = 16000, 0.95


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--embedder")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--words", type=int, default=6)
    args = parser.parse_args()
    threads.limit("small network")
    embedder = open_for_words(args.embedder).embedder
    rows = pd.read_csv(args.manifest).sample(frac=1, random_state=0)
    sentences = other_speech(args.data, args.hours)
    hours = sum(map(len, sentences)) / RATE / 3600
    print(f"{embedder.spec.name}, {args.shots} recordings of each word, {hours:.2f} hours of other speech")
    print(
        "  word                 detected   at 95% detection: threshold, false accepts an hour   share of a core"
    )
    for word in sorted(rows["text"].unique())[: args.words]:
        clips = [read_audio(args.manifest.parent / path, RATE) for path in rows[rows["text"] == word]["path"]]
        measure(embedder, str(word), clips, args.shots, sentences, hours)


def measure(
    embedder: WordEmbedder,
    word: str,
    clips: list[np.ndarray],
    shots: int,
    sentences: list[np.ndarray],
    hours: float,
) -> None:
    support = [word_in(clip, RATE, embedder.margin_s)[0] for clip in clips[:shots]]
    delta = enrol(embedder, support, [word] * shots, EnrolConfig("prototypes"))
    assert delta.vocabulary is not None
    stream, places = with_words(clips[shots:], sentences)
    scores = np.full(len(places), -np.inf)
    for found in spotted(embedder, delta.vocabulary, stream)[0]:
        for i, (start_s, end_s) in enumerate(places):
            if found.start_s < end_s and found.end_s > start_s:
                scores[i] = max(scores[i], found.score)
    others, seconds = spotted(embedder, delta.vocabulary, sentences)
    threshold = float(np.quantile(scores, 1 - DETECTION))
    false = sum(one.score >= threshold for one in others) / hours
    detected = float(np.isfinite(scores).mean())
    print(
        f"  {word:20s} {detected:7.1%}    {threshold:10.3f} {false:10.1f} {'':38s} {seconds / hours / 3600:6.3f}",
        flush=True,
    )


def spotted(
    embedder: WordEmbedder, words: Vocabulary, blocks: list[np.ndarray]
) -> tuple[list[Spotted], float]:
    """All places at any score, and the seconds that it took."""
    spotter, begin = Spotter(embedder, words, -np.inf, every_s=BATCH_S), time.perf_counter()
    found = [one for block in blocks for one in spotter.push(block)]
    return [*found, *spotter.end()], time.perf_counter() - begin


def with_words(
    clips: list[np.ndarray], sentences: list[np.ndarray]
) -> tuple[list[np.ndarray], list[tuple[float, float]]]:
    """A stream of sentences and words in turn, and the times of the words."""
    parts, places, at = [], [], 0
    for clip, sentence in zip(clips, sentences, strict=False):
        word = clip * (np.std(sentence) / max(np.std(clip), 1e-6))
        for samples in (sentence, word):
            if samples is word:
                places.append((at / RATE, (at + len(word)) / RATE))
            parts += [samples.astype(np.float32), np.zeros(RATE, np.float32)]
            at += len(samples) + RATE
    return parts, places


def other_speech(data: Path, hours: float) -> list[np.ndarray]:
    rows = read_manifest(data / "manifest.csv")
    rows = rows[
        (rows["language"] == "en") & (rows["unit"] == "sentence") & rows["split"].isin(["test", "dev"])
    ]
    clips: list[np.ndarray] = []
    for path in rows.sample(frac=1, random_state=0)["path"]:
        clips.append(read_audio(data / path, RATE))
        if sum(map(len, clips)) >= hours * 3600 * RATE:
            break
    return clips


if __name__ == "__main__":
    main()
