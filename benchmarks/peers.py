"""Compare the speed and the word error rate of metavox and faster-whisper, on short clips and on one long file.

    python benchmarks/peers.py [--base whisper-tiny.en] [--delta FOLDER] [--clips 120] [--minutes 60] [--threads 1]

Run it from the project folder, with the corpus of `make demo` in data/. The clips are English sentences of test speakers,
of up to 5 s; the long file joins sentences of test and development speakers with pauses. Both decode greedily with the
same number of threads; faster-whisper has the weights of whisper-tiny.en in int8.

Each line gives the median seconds over alternating rounds (the long file has one), the speed relative to faster-whisper,
and the word error rate with its 95% interval.
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
MAX_CLIP_S = 5.0
PAUSE_S = (0.3, 1.2)
PEER = "faster-whisper int8"
Transcribe = Callable[[list[np.ndarray]], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--delta", type=Path, help="apply this delta to the base model")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="length of the long file; 0 leaves it out"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clips, references = short_clips(args.data, args.clips)
    long, long_reference = long_recording(args.data, args.minutes)
    base = find_base(args.base).load()
    if args.delta:
        base = base.using([load_delta(args.delta)])
    arms: dict[str, Transcribe] = {
        "metavox": lambda audio: [transcript.text for transcript in base.transcribe(audio)],
        "metavox, full context": lambda audio: [
            transcript.text for transcript in base.transcribe(audio, DecodeOptions(context="full"))
        ],
        "metavox, one clip at a time": lambda audio: [base.transcribe([clip])[0].text for clip in audio],
        PEER: faster_whisper(args.threads),
    }
    compare(f"{len(clips)} clips up to {MAX_CLIP_S:.0f} s", arms, clips, references, args.rounds)
    if args.minutes:
        arms = {name: arms[name] for name in ("metavox", PEER)}
        compare(f"one file of {len(long) / RATE / 60:.0f} minutes", arms, [long], [long_reference], 1)


def compare(
    title: str, arms: dict[str, Transcribe], audio: list[np.ndarray], references: list[str], rounds: int
) -> None:
    """Print the seconds, relative speed and word error rate of each arm."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    hypotheses: dict[str, list[str]] = {}
    for _ in range(rounds):
        for name, transcribe in arms.items():
            start = time.perf_counter()
            hypotheses[name] = transcribe(audio)
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"{title}, {sum(map(len, audio)) / RATE:.0f} s of audio")
    for name, seconds in median.items():
        errors = word_errors(references, hypotheses[name])
        wer = errors.interval() if len(references) > 1 else f"{100 * errors.rate:.1f}"
        speed = median[PEER] / seconds
        print(f"  {name:28s} {seconds:8.1f} s   {speed:5.2f} times faster-whisper's speed   WER {wer}%")


def short_clips(data: Path, count: int) -> tuple[list[np.ndarray], list[str]]:
    rows = english_sentences(data, "test")
    rows = rows[rows["duration_s"] <= MAX_CLIP_S].sample(frac=1, random_state=0).head(count)
    return [read_audio(data / path, RATE) for path in rows["path"]], rows["text"].tolist()


def long_recording(data: Path, minutes: float) -> tuple[np.ndarray, str]:
    rows = pd.concat([english_sentences(data, "test"), english_sentences(data, "dev")]).sample(
        frac=1, random_state=1
    )
    random, pieces, texts, length = np.random.default_rng(0), [], [], 0
    while length < minutes * 60 * RATE:
        for path, text in zip(rows["path"], rows["text"], strict=True):
            if length >= minutes * 60 * RATE:
                break
            pause = np.zeros(round(random.uniform(*PAUSE_S) * RATE), np.float32)
            pieces += [read_audio(data / path, RATE), pause]
            texts.append(text)
            length += len(pieces[-2]) + len(pause)
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32), " ".join(texts)


def english_sentences(data: Path, split: str) -> pd.DataFrame:
    rows = read_manifest(data / "manifest.csv")
    rows = rows[(rows["split"] == split) & (rows["language"] == "en") & (rows["unit"] == "sentence")]
    seconds = [len(read_audio(data / path, RATE)) / RATE for path in rows["path"]]
    return rows.assign(duration_s=seconds)


def faster_whisper(threads: int) -> Transcribe:
    """faster-whisper with the CTranslate2 model of the wheel that whisper-tiny.en comes from."""
    from faster_whisper import WhisperModel

    from metavox.recognisers.bases.wheel import ctranslate2_folder

    with tempfile.TemporaryDirectory() as folder:
        model = WhisperModel(
            str(ctranslate2_folder(Path(folder))), device="cpu", compute_type="int8", cpu_threads=threads
        )

    def transcribe(audio: list[np.ndarray]) -> list[str]:
        return [" ".join(s.text.strip() for s in model.transcribe(clip, beam_size=1)[0]) for clip in audio]

    return transcribe


if __name__ == "__main__":
    main()
