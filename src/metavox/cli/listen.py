"""`metavox listen`: live transcription of a microphone, a file, or samples on standard input."""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from metavox.cli.decoding import Beam, HotWord, HotWordsFile, HotWordWeight
from metavox.cli.options import Base, Deltas, Language
from metavox.cli.transcribe import TestTimeMode
from metavox.errors import UserError

if TYPE_CHECKING:
    from metavox.recognition.streaming import Update

CHUNK_S = 0.1
BEHIND_S = 1.0  # a listener that is further behind catches up without intermediate passes
QUEUED_S = 60.0  # that wait for it at most
READ_BYTES = 1 << 15
RATES_HZ = (4000, 192_000)


def listen(
    source: Annotated[
        str, typer.Argument(metavar="FILE|-|mic", help="A recording, - for PCM on standard input, or mic.")
    ],
    pace: Annotated[
        Literal["real", "fast"],
        typer.Option(help="Play a recording in real time, or as fast as it is transcribed."),
    ] = "real",
    rate: Annotated[
        int,
        typer.Option(help="Samples a second on standard input: signed 16-bit, little-endian, one channel."),
    ] = 16000,
    delta: Deltas = [],  # noqa: B006
    base: Base = None,
    language: Language = "",
    step: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two passes over the open sentence.")
    ] = 0.5,
    look_ahead: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds that must follow a word before it is final; inf waits for the end of the sentence.",
        ),
    ] = 0.3,
    endpoint: Annotated[float, typer.Option(min=0.3, help="Seconds of pause that end a sentence.")] = 0.8,
    test_time: TestTimeMode = "off",
    beam: Beam = 0,
    hot_word: HotWord = [],  # noqa: B006
    hot_words: HotWordsFile = None,
    hot_word_weight: HotWordWeight = 0.3,
    events: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object for each change, also for words that may change."),
    ] = False,
) -> None:
    """Transcribe a stream while it is spoken. A word that was printed as final never changes."""
    from dataclasses import replace

    from metavox.cli.decoding import search_of
    from metavox.cli.sessions import opened, with_deltas, with_test_time
    from metavox.recognisers.delta import load_delta
    from metavox.recognition.streaming import LiveTranscription, StreamConfig

    checked_rate(rate)
    search = search_of(beam, hot_word, hot_words, hot_word_weight, None, None)
    deltas = [load_delta(folder) for folder in delta]
    plain = opened(base, language, deltas=deltas)
    options = replace(plain.options, word_times=True, beam=search.beam, guide=search.guide)
    session = with_test_time(with_deltas(replace(plain, options=options), delta, deltas), test_time)
    config = StreamConfig(step, look_ahead, endpoint)
    live = LiveTranscription(session.transcribe, plain.rate, config)
    show = _Screen(events, sys.stdout.isatty())
    for samples, behind in chunks(source, plain.rate, rate, pace):
        for update in live.push(samples, behind):
            show(update)
    for update in live.end():
        show(update)
    show.end(live.heard_s, live.speech_s)


def checked_rate(rate: int) -> None:
    """Raise UserError for a rate of standard input that nothing records at."""
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise UserError(f"--rate {rate}: expected {RATES_HZ[0]} to {RATES_HZ[1]} samples a second")


def chunks(source: str, rate: int, pcm_rate: int, pace: str) -> Iterator[tuple[np.ndarray, bool]]:
    """Samples (time,) at `rate` Hz, and whether their listener is behind: more is there than it has taken."""
    if source == "-":
        yield from _queued(_standard_input(rate, pcm_rate), rate)
    elif source == "mic":
        yield from _queued(_microphone(rate), rate)
    else:
        from metavox.audio.read import read_audio

        samples, size = read_audio(source, rate), round(CHUNK_S * rate)
        begin = time.monotonic()
        for first in range(0, len(samples), size):
            chunk = samples[first : first + size]
            late_s = time.monotonic() - begin - (first + len(chunk)) / rate
            if pace == "real":
                time.sleep(max(0.0, -late_s))
            yield chunk, pace == "real" and late_s > BEHIND_S


def _queued(source: Iterator[np.ndarray], rate: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Read a source in a thread, so that it does not wait for what is done with its samples; they are given as they came,
    all that are there at once. A source that is a minute ahead waits."""
    waiting: queue.Queue[np.ndarray | BaseException | None] = queue.Queue(round(QUEUED_S / CHUNK_S))

    def read() -> None:
        try:
            for samples in source:
                waiting.put(samples)
            waiting.put(None)
        except BaseException as error:  # noqa: BLE001  (raised again by the reader of the queue)
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    parts: list[np.ndarray] = []
    while isinstance(item := waiting.get(), np.ndarray):
        parts.append(item)
        if waiting.empty():
            samples, parts = np.concatenate(parts), []
            yield samples, len(samples) > BEHIND_S * rate
    if parts:
        yield np.concatenate(parts), True
    if isinstance(item, BaseException):
        raise item


def _standard_input(rate: int, pcm_rate: int) -> Iterator[np.ndarray]:
    """Whatever arrives, a byte at a time or all at once; an odd byte at the end is dropped."""
    import soxr

    resampler = None if rate == pcm_rate else soxr.ResampleStream(pcm_rate, rate, 1, "float32", "MQ")
    pending = b""
    least = 2 * round(CHUNK_S * pcm_rate)
    while data := os.read(0, READ_BYTES):
        pending += data
        if len(pending) >= least:
            whole = len(pending) - len(pending) % 2
            yield _decoded(pending[:whole], resampler, last=False)
            pending = pending[whole:]
    yield _decoded(pending[: len(pending) - len(pending) % 2], resampler, last=True)


def _decoded(data: bytes, resampler: "object", last: bool) -> np.ndarray:
    samples = np.frombuffer(data, "<i2").astype(np.float32) / 32768
    return resampler.resample_chunk(samples, last) if resampler else samples  # type: ignore[attr-defined, no-any-return]


def _microphone(rate: int) -> Iterator[np.ndarray]:
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise UserError(
            f"no microphone: {error}; install sounddevice and PortAudio, or pipe the samples: "
            f"arecord -q -t raw -f S16_LE -r {rate} | metavox listen -"
        ) from error
    try:
        with sounddevice.InputStream(rate, channels=1, dtype="float32") as stream:
            while True:
                samples, overflowed = stream.read(round(CHUNK_S * rate))
                if overflowed:
                    print("metavox: the microphone was not read in time; some of it is lost", file=sys.stderr)
                yield samples[:, 0].copy()
    except sounddevice.PortAudioError as error:
        raise UserError(f"no microphone: {error}; pipe the samples to metavox listen - instead") from error


class _Screen:
    """Prints updates: JSON lines, or text, whose last words may still change on a terminal."""

    def __init__(self, events: bool, terminal: bool):
        self._events, self._terminal, self._begun = events, terminal, False

    def __call__(self, update: "Update") -> None:
        if self._events:
            if update.final or update.follow or update.ended:
                print(json.dumps(_event(update), ensure_ascii=False), flush=True)
            return
        if self._terminal:
            sys.stdout.write("\r\033[K" if not self._begun else "\0338\033[K")
        if update.final:
            sys.stdout.write((" " if self._begun else "") + update.text)
            self._begun = True
        if update.ended and self._begun:
            sys.stdout.write("\n")
            self._begun = False
        elif self._terminal:
            follow = " ".join(word.text for word in update.follow)
            sys.stdout.write(f"\0337 \033[2m{follow}\033[0m")
        sys.stdout.flush()

    def end(self, heard_s: float, speech_s: float) -> None:
        if self._begun:
            print()
        if self._events:
            print(json.dumps({"type": "end", "heard": round(heard_s, 3), "speech": round(speech_s, 3)}))


def _event(update: "Update") -> dict[str, object]:
    return {
        "type": "final" if update.ended else "partial",
        "final": [[word.text, round(word.start_s, 3), round(word.end_s, 3)] for word in update.final],
        "follow": " ".join(word.text for word in update.follow),
        "heard": round(update.heard_s, 3),
    }
