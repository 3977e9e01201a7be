"""Compare the word embedders of base models on labelled recordings, at full bandwidth and over a telephone line.

    python benchmarks/words.py arabic-commands/manifest.csv --way 10 --shots 1,5 --pairing cross-speaker --unknown 30
    python benchmarks/words.py wake-words/manifest.csv --way 6 --shots 1,5 --pairing any --queries 5

Each row is what `metavox fewshot` measures with the same options (600 episodes, seed 0, in % with 95% intervals). Over the
telephone, all recordings are resampled to 8 kHz and coded as G.711 mu-law, which no training uses.

    embedder     the base model whose embedder is used; conformer is the small network in the package
    channel      wide, or telephone
    taught by    --pairing, and the number of clips per word
    accuracy     clips of enrolled words that are recognised
    at 1% FA     those that are recognised and exceed the threshold that 1% of the unknown words reach (with --unknown)
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from metavox import threads
from metavox.audio.classical import coded, resampled
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest, resolve
from metavox.metrics.fewshot import Protocol, fewshot
from metavox.recognisers.conformer import ConformerRecogniser
from metavox.session import open_for_words

RATE, TELEPHONE_RATE = 16000, 8000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--bases", default="conformer,whisper-tiny.en")
    parser.add_argument("--channels", default="wide,telephone")
    parser.add_argument("--way", type=int, default=10)
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--pairing", default="cross-speaker")
    parser.add_argument("--unknown", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--method", default="head")
    args = parser.parse_args()
    threads.limit("small network")
    protocol = Protocol(
        args.way,
        args.queries,
        args.pairing,
        args.unknown,
        episodes=args.episodes,
        method=args.method,
        views=0,
    )
    print("| embedder | channel | taught by | accuracy | at 1% FA |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for channel in args.channels.split(","):
            manifest = args.manifest if channel == "wide" else over_telephone(args.manifest, Path(folder))
            for base in args.bases.split(","):
                measure(base, channel, manifest, protocol, [int(shot) for shot in args.shots.split(",")])


def measure(base: str, channel: str, manifest: Path, protocol: Protocol, shots: list[int]) -> None:
    """Print a row for each number of shots."""
    embedder = open_for_words(base).embedder
    assert isinstance(embedder, ConformerRecogniser)
    for shot, outcome in fewshot(embedder.network, manifest, protocol, shots).outcomes.items():
        figures = outcome.figures
        accepted = figures.open_set.accuracy[0.01] if figures.open_set else ""
        print(
            f"| {base} | {channel} | {protocol.pairing}, {shot} | {figures.accuracy} | {accepted} |",
            flush=True,
        )


def over_telephone(manifest: Path, folder: Path) -> Path:
    """A copy of the recordings as a telephone line passes them; returns its manifest."""
    rows = read_manifest(manifest)
    for index, path in enumerate(rows["path"]):
        narrow = resampled(read_audio(resolve(manifest, path), RATE), RATE, TELEPHONE_RATE)
        peak = max(1.0, float(np.abs(narrow).max(initial=0.0)))
        soundfile.write(folder / f"{index}.wav", coded(narrow / peak, TELEPHONE_RATE, "ulaw"), TELEPHONE_RATE)
    rows.assign(path=[f"{index}.wav" for index in range(len(rows))]).to_csv(
        folder / "manifest.csv", index=False
    )
    return folder / "manifest.csv"


if __name__ == "__main__":
    main()
