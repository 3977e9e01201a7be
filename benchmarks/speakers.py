"""Compare speaker verification with resemblyzer, on the same pairs of recordings of held-out speakers.

    pip install resemblyzer==0.1.4        # with librosa and webrtcvad; not needed for metavox's own line
    python benchmarks/speakers.py [--base whisper-tiny.en] [--split test] [--recordings 25]

Run it from the project folder, with the corpus of `make demo` in data/. A pair is of two recordings from one source, so that
microphones and rooms do not tell speakers apart; recordings are longer than a second. Both systems' cosines are given
plain and normalised against the same cohort: recordings of the corpus's training speakers. metavox's projection was
learned from those speakers, who come from the same sources as the test speakers; resemblyzer's from others.

EER: the error rate at the threshold where as many pairs of one speaker are rejected as pairs of two are accepted. The interval
is a bootstrap over speakers.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from metavox import threads
from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.intervals import bootstrap_interval
from metavox.recognisers.bases.find import find_base
from metavox.recognition.speakers import COHORT, NEAREST, load_speakers, packaged_speakers, pooled

RATE, DRAWS = 16000, 300
Embed = Callable[[Sequence[np.ndarray]], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--model", type=Path, help="a folder of metavox speaker learn")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--recordings", type=int, default=25, help="of each speaker")
    args = parser.parse_args()
    threads.limit("small network")
    rows = read_manifest(args.data / "manifest.csv")
    chosen, clips = sample(rows[rows["split"] == args.split], args.data, args.recordings)
    _, cohort = sample(rows[rows["split"] == "train"], args.data, 8)
    arms: dict[str, Embed] = {"metavox": metavox(args.base, args.model)}
    try:
        arms["resemblyzer"] = resemblyzer()
    except ImportError as error:
        print(f"resemblyzer is left out: {error}")
    first, second = np.triu_indices(len(chosen), 1)
    source, speaker = chosen["source"].to_numpy(), chosen["speaker"].to_numpy()
    kept = source[first] == source[second]
    first, second = first[kept], second[kept]
    same = speaker[first] == speaker[second]
    print(
        f"{args.split}: {chosen['speaker'].nunique()} speakers, {len(chosen)} recordings, {same.sum()} pairs of one speaker, "
        f"{(~same).sum()} of two"
    )
    for name, embed in arms.items():
        embeddings, others = embed(clips), embed(cohort[:COHORT])
        plain = embeddings @ embeddings.T
        nearest = np.sort(embeddings @ others.T, axis=1)[:, -NEAREST:]
        z = (plain - nearest.mean(1)[:, None]) / nearest.std(1)[:, None]
        normalised = (z + z.T) / 2
        for kind, scores in (("cosine", plain), ("normalised", normalised)):
            print(
                f"  {name:12s} {kind:11s} EER {interval(scores[first, second], same, speaker, first, second)}%"
            )


def interval(
    scores: np.ndarray, same: np.ndarray, speaker: np.ndarray, first: np.ndarray, second: np.ndarray
) -> object:
    """The EER, with a bootstrap over speakers: a pair counts as often as both of its speakers are drawn."""
    random, names = np.random.default_rng(0), np.unique(speaker)
    number = np.searchsorted(names, speaker)
    draws = []
    for _ in range(DRAWS):
        times = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))
        weight = np.where(same, times[number[first]], times[number[first]] * times[number[second]])
        draws.append(equal_error_rate(scores, same, weight))
    return bootstrap_interval(equal_error_rate(scores, same), draws, len(names))


def equal_error_rate(scores: np.ndarray, same: np.ndarray, weight: np.ndarray | None = None) -> float:
    weight = np.ones(len(scores)) if weight is None else weight
    order = np.argsort(scores)
    rejected = np.cumsum(np.where(same, weight, 0)[order]) / max(1e-9, weight[same].sum())
    accepted = 1 - np.cumsum(np.where(same, 0, weight)[order]) / max(1e-9, weight[~same].sum())
    at = int(np.argmin(np.abs(rejected - accepted)))
    return float((rejected[at] + accepted[at]) / 2)


def sample(rows: pd.DataFrame, data: Path, count: int) -> tuple[pd.DataFrame, list[np.ndarray]]:
    rows = rows[rows["unit"].isin(["sentence", "word"])].sample(frac=1, random_state=0)
    kept, clips = [], []
    for _, group in rows.groupby("speaker"):
        for row in group.head(count).itertuples():
            samples = read_audio(data / str(row.path), RATE)
            if RATE < len(samples) < 12 * RATE:
                kept.append(row.Index)
                clips.append(samples)
    return rows.loc[kept], clips


def metavox(base: str, folder: Path | None) -> Embed:
    recogniser = find_base(base).load()
    model = load_speakers(folder) if folder else packaged_speakers(recogniser.spec.digest)
    assert model is not None, "learn speakers for this base first"
    return lambda clips: model.embed(pooled(recogniser, clips))


def resemblyzer() -> Embed:
    from resemblyzer import VoiceEncoder, preprocess_wav

    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(clips: Sequence[np.ndarray]) -> np.ndarray:
        # Its own preparation: volume, and silence cut out; all of it, if nothing would be left.
        prepared = (preprocess_wav(clip, RATE) for clip in clips)
        return np.stack(
            [
                encoder.embed_utterance(p if len(p) > RATE // 2 else clip)
                for p, clip in zip(prepared, clips, strict=True)
            ]
        )

    return embed


if __name__ == "__main__":
    main()
