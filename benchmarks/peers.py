"""Beside faster-whisper on the same files and cores in one run: short clips and an hour.

    python benchmarks/peers.py [--base whisper-tiny.en] [--delta FOLDER] [--clips 120] [--minutes 60] [--threads 1] [--rounds 3]

Needs `data/` (make demo builds it). Clips are English sentences of test speakers of up to 5 s; the long file is sentences
of test and development speakers, one after another with pauses. Both use greedy decoding and the same threads;
faster-whisper has the same weights in int8. Seconds are medians over rounds, in which the two take turns; the word
error rates have 95% intervals.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metavox.audio.read import read_audio
from metavox.dataset.manifest import read_manifest
from metavox.metrics.rates import word_errors
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.delta import load_delta
from metavox.recognisers.recogniser import DecodeOptions

RATE = 16000
LONGEST_CLIP_S = 5.0
PAUSE_S = (0.3, 1.2)
Transcribe = Callable[[list[np.ndarray]], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--delta", type=Path, help="to see what an adapter makes of a long file")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clips, texts = short_clips(given.data, given.clips)
    long, said = long_recording(given.data, given.minutes)
    base = find_base(given.base).load()
    if given.delta:
        base = base.using([load_delta(given.delta)])
    peer = faster_whisper(given.threads)
    ours: dict[str, Transcribe] = {
        "metavox": lambda some: [one.text for one in base.transcribe(some)],
        "metavox, full context": lambda some: [
            one.text for one in base.transcribe(some, DecodeOptions(context="full"))
        ],
        "metavox, one clip at a time": lambda some: [base.transcribe([one])[0].text for one in some],
        "faster-whisper int8": peer,
    }
    report(f"{len(clips)} clips up to {LONGEST_CLIP_S:.0f} s", ours, clips, texts, given.rounds)
    if given.minutes:
        both = {name: ours[name] for name in ("metavox", "faster-whisper int8")}
        report(f"one file of {len(long) / RATE / 60:.0f} minutes", both, [long], [said], 1)


def report(
    what: str, ways: dict[str, Transcribe], audio: list[np.ndarray], said: list[str], rounds: int
) -> None:
    """Seconds by way, as a ratio to the last one, and the words that are wrong."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    heard: dict[str, list[str]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            heard[name] = way(audio)
            took[name].append(time.perf_counter() - start)
    peer = statistics.median(list(took.values())[-1])
    print(f"{what}, {sum(map(len, audio)) / RATE:.0f} s of audio")
    for name, seconds in took.items():
        middle = statistics.median(seconds)
        wrong = word_errors(said, heard[name])
        interval = wrong.interval() if len(said) > 1 else f"{100 * wrong.rate:.1f}"
        print(f"  {name:30s} {middle:8.1f} s   {peer / middle:5.2f} times the peer's speed   WER {interval}%")


def short_clips(data: Path, count: int) -> tuple[list[np.ndarray], list[str]]:
    rows = english(data, "test")
    rows = rows[rows["duration_s"] <= LONGEST_CLIP_S].sample(frac=1, random_state=0).head(count)
    return [read_audio(data / path, RATE) for path in rows["path"]], rows["text"].tolist()


def long_recording(data: Path, minutes: float) -> tuple[np.ndarray, str]:
    rows = pd.concat([english(data, "test"), english(data, "dev")]).sample(frac=1, random_state=1)
    random, parts, texts, length = np.random.default_rng(0), [], [], 0
    while length < minutes * 60 * RATE:
        for path, text in zip(rows["path"], rows["text"], strict=True):
            if length >= minutes * 60 * RATE:
                break
            pause = np.zeros(round(random.uniform(*PAUSE_S) * RATE), np.float32)
            parts += [read_audio(data / path, RATE), pause]
            texts.append(text)
            length += len(parts[-2]) + len(pause)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32), " ".join(texts)


def english(data: Path, split: str) -> pd.DataFrame:
    rows = read_manifest(data / "manifest.csv")
    rows = rows[(rows["split"] == split) & (rows["language"] == "en") & (rows["unit"] == "sentence")]
    seconds = [len(read_audio(data / path, RATE)) / RATE for path in rows["path"]]
    return rows.assign(duration_s=seconds)


def faster_whisper(threads: int) -> Transcribe:
    """The wheel's own CTranslate2 folder, as its users load it."""
    from faster_whisper import WhisperModel

    from metavox.recognisers.bases.wheel import ctranslate2_folder

    with tempfile.TemporaryDirectory() as folder:
        model = WhisperModel(
            str(ctranslate2_folder(Path(folder))), device="cpu", compute_type="int8", cpu_threads=threads
        )

    def transcribe(audio: list[np.ndarray]) -> list[str]:
        return [" ".join(s.text.strip() for s in model.transcribe(one, beam_size=1)[0]) for one in audio]

    return transcribe


if __name__ == "__main__":
    main()
