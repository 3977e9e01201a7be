"""Recordings that tests send to the service."""

import io
from collections.abc import Callable

import av
import numpy as np
import soundfile

RATE = 16000
Clip = Callable[..., bytes]


def tone(hz: float, seconds: float = 0.6, seed: int = 0) -> np.ndarray:
    """A tone with overtones that fades in and out, with a little noise: (time,) at RATE."""
    time = np.arange(int(seconds * RATE)) / RATE
    voice = (
        sum(np.sin(2 * np.pi * hz * n * time) / n for n in (1, 2, 3)) * np.sin(np.pi * time / seconds) ** 2
    )
    return (0.2 * voice + 0.002 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def encoded(samples: np.ndarray, kind: str = "wav") -> bytes:
    """Samples (time,) as the bytes of a file."""
    buffer = io.BytesIO()
    if kind != "m4a":
        soundfile.write(buffer, samples, RATE, format=kind.upper())
        return buffer.getvalue()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = RATE
        fifo = av.AudioFifo()
        fifo.write(frame)
        while block := fifo.read(1024, partial=True):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return buffer.getvalue()
