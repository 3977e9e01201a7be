"""Measure live transcription: how late words are, how much of a core it takes, and what it loses to the whole recording.

    python benchmarks/streaming.py [--base whisper-tiny.en] [--minutes 5] [--step 0.5] [--look-ahead 0.3]

Run it from the project folder, with the corpus of `make demo` in data/. The recording joins English sentences of test and
development speakers with pauses. It is played as a simulation in real time on one core: a pass begins when its samples are
there and the pass before is done, and takes as long as it takes here.

Latency is from the end of a word, by its own time, to its first appearance (which may still change) and to its final
appearance. The arms: live; live, final at the end of sentences only; the whole recording; faster-whisper int8 (the whole
recording, beam 1) and PocketSphinx, if installed.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peers import RATE, faster_whisper, long_recording

from metavox.metrics.rates import word_errors
from metavox.recognisers.bases.find import find_base
from metavox.recognition.streaming import LiveTranscription, StreamConfig, Update
from metavox.session import Session, session_on

CHUNK = RATE // 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="whisper-tiny.en")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--step", type=float, default=0.5)
    parser.add_argument("--look-ahead", type=float, default=0.3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    samples, reference = long_recording(args.data, args.minutes)
    session = session_on(find_base(args.base).load())
    session = replace(session, options=replace(session.options, word_times=True))
    print(f"{len(samples) / RATE:.0f} s of audio, one core")
    whole = timed("the whole recording", lambda: session.transcribe(samples).text, samples, reference)
    for name, look_ahead_s in (("live", args.look_ahead), ("live, sentences", float("inf"))):
        text = simulated(name, session, samples, StreamConfig(args.step, look_ahead_s), reference)
        print(f"    words unlike those of the whole recording: {word_errors([whole], [text]).rate:.1%}")
    peer = faster_whisper(1)
    timed("faster-whisper int8", lambda: peer([samples])[0], samples, reference)
    try:
        timed("PocketSphinx", lambda: pocketsphinx(samples), samples, reference)
    except ImportError:
        print("  PocketSphinx is left out: pip install pocketsphinx==5.1.1")


def timed(name: str, work: Callable[[], str], samples: np.ndarray, reference: str) -> str:
    begin = time.perf_counter()
    text = work()
    seconds = time.perf_counter() - begin
    errors = word_errors([reference], [text]).rate
    print(f"  {name:22s} x real time {seconds / (len(samples) / RATE):.3f}, WER {errors:.1%}", flush=True)
    return text


def simulated(name: str, session: Session, samples: np.ndarray, config: StreamConfig, reference: str) -> str:
    """Play samples in a clock of their own, in which work takes its real time, and print the latencies."""
    live = LiveTranscription(session.transcribe, RATE, config)
    clock_s = work_s = 0.0
    shown: list[float] = []
    final: list[float] = []
    text: list[str] = []
    seen_s = 0.0  # words that end before this were shown

    def note(updates: list[Update], now_s: float) -> None:
        nonlocal seen_s
        for update in updates:
            for word in (*update.final, *update.follow):
                if word.end_s > seen_s:
                    shown.append(now_s - word.end_s)
                    seen_s = word.end_s
            final.extend(now_s - word.end_s for word in update.final)
            text.extend(word.text for word in update.final)

    for first in range(0, len(samples), CHUNK):
        there_s = min(first + CHUNK, len(samples)) / RATE
        behind = clock_s > there_s + 2 * config.step_s
        clock_s = max(clock_s, there_s)
        begin = time.perf_counter()
        updates = list(live.push(samples[first : first + CHUNK], behind))
        seconds = time.perf_counter() - begin
        clock_s, work_s = clock_s + seconds, work_s + seconds
        note(updates, clock_s)
    begin = time.perf_counter()
    updates = list(live.end())
    clock_s += time.perf_counter() - begin
    note(updates, clock_s)

    def quantiles(values: list[float]) -> str:
        return "p50 {:.2f} s, p95 {:.2f} s".format(*np.quantile(values, [0.5, 0.95])) if values else "none"

    errors = word_errors([reference], [" ".join(text)]).rate
    print(
        f"  {name:22s} x real time {work_s / (len(samples) / RATE):.3f}, WER {errors:.1%}; words shown after "
        f"{quantiles(shown)}; final after {quantiles(final)}",
        flush=True,
    )
    return " ".join(text)


def pocketsphinx(samples: np.ndarray) -> str:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE, loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    return decoder.hyp().hypstr if decoder.hyp() else ""


if __name__ == "__main__":
    main()
