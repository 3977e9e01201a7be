"""Clean recordings in many formats, so that a planted fault is the only thing wrong with a file."""

import io
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from metavox.sources.synthetic import engine

WORDS = {
    "en": [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "yes",
        "no",
        "stop",
        "start",
        "left",
        "right",
        "up",
        "down",
        "open",
        "close",
    ],
    "de": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "Straße", "grün"],
    "fr": ["un", "deux", "trois", "café", "garçon", "déjà"],
    "es": ["uno", "dos", "tres", "cuatro", "niño", "señal"],
    "ru": ["один", "два", "три", "четыре", "пять", "шесть"],
    "el": ["ένα", "δύο", "τρία"],
    "hi": ["एक", "दो", "तीन"],
    "ko": ["하나", "둘", "셋"],
    "vi": ["một", "hai", "ba"],
    "ka": ["ერთი", "ორი", "სამი"],
    "ar": ["واحد", "اثنان", "ثلاثة"],
    "tr": ["bir", "iki", "üç"],
}
VARIANTS = ("m1", "f1", "m3", "f2", "m4", "f3", "m5", "f4")


@dataclass(frozen=True)
class Clip:
    """Speech (time,), float32 at 22.05 kHz within ±1, and its text."""

    samples: np.ndarray
    text: str
    language: str
    speaker: str

    def at(self, rate: int) -> np.ndarray:
        samples = soxr.resample(self.samples, engine.RATE_HZ, rate).astype(np.float32)
        return np.clip(samples, -0.97, 0.97)


@cache
def clips(count: int, languages: tuple[str, ...] = ("en",), take: int = 0) -> tuple[Clip, ...]:
    """`count` different recordings, which also differ between takes; every speaker speaks one language."""
    made = []
    for index in range(count):
        language = languages[index % len(languages)]
        cycle = index // len(languages)
        words = WORDS[language]
        variant = VARIANTS[cycle // len(words) % len(VARIANTS)]
        speed = 130 + 7 * take + cycle // (len(words) * len(VARIANTS))
        made.append(_clip(language, words[cycle % len(words)], variant, speed))
    return tuple(made)


def _clip(language: str, word: str, variant: str, speed: int) -> Clip:
    pcm = engine.speak(_engine(), (f"{language}+{variant}", word, speed, 50, 50, ""))
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    loud = np.flatnonzero(np.abs(samples) > 0.002)
    samples = samples[loud[0] : loud[-1]]
    return Clip(0.6 * samples / np.abs(samples).max(), word, language, f"{language}-{variant}")


_engine = cache(engine.start)


def encoded(samples: np.ndarray, rate: int, container: str, subtype: str | None = None) -> bytes:
    """(time,) or (time, channel) encoded by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def encoded_av(
    samples: np.ndarray, rate: int, container: str, codec: str, with_picture: bool = False
) -> bytes:
    """(time,) encoded by ffmpeg, at a rate that the codec supports."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        pictures = _picture_stream(output, "mpeg4") if with_picture else None
        stream = output.add_stream(codec, rate=rate, layout="mono")
        if pictures:
            _mux_picture(output, pictures)
        frame = av.AudioFrame.from_ndarray(np.int16(samples * 32767)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, "mono", rate, context.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(stream.encode(part))
    return file.getvalue()


def picture(container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        _mux_picture(output, _picture_stream(output, codec))
    return file.getvalue()


def _picture_stream(output: Any, codec: str) -> Any:
    stream = output.add_stream(codec, rate=10)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return stream


def _mux_picture(output: Any, stream: Any) -> None:
    for packet in [*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode()]:
        output.mux(packet)


def wav(samples: np.ndarray, rate: int, claimed: int | None = None, channels: int = 1) -> bytes:
    """A 16-bit wav written by hand, so that its header can claim any rate, size and number of channels."""
    data = np.int16(samples * 32767).tobytes()
    size = len(data) if claimed is None else claimed
    width = 2 * channels
    head = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * width % 2**32, width, 16)
    return (
        b"RIFF"
        + struct.pack("<I", min(size + 36, 2**32 - 1))
        + b"WAVEfmt "
        + head
        + b"data"
        + struct.pack("<I", size)
        + data
    )
