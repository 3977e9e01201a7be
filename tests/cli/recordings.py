"""Synthetic recordings of words for the commands: a word is a pair of tones, and a speaker shifts their pitch."""

import csv
import io
from pathlib import Path

import av
import numpy as np
import soundfile

WORDS = {"one": (300, 900), "two": (900, 300), "three": (500, 500), "four": (1500, 700)}
KINDS = ((8000, "wav"), (44100, "flac"), (16000, "mp3"), (48000, "ogg"), (22050, "m4a"))


def spoken(word: str, speaker: int, take: int, rate: int = 16000) -> np.ndarray:
    """Two successive tones with a little noise: (time,) float32, about half a second."""
    random = np.random.default_rng([speaker, take, *map(ord, word)])
    half = np.arange(int(random.uniform(0.2, 0.3) * rate)) / rate
    shift = (1 + 0.06 * speaker) * random.uniform(0.98, 1.02)
    tones = [sum(np.sin(2 * np.pi * hz * shift * n * half) / n for n in (1, 2)) for hz in WORDS[word]]
    sound = np.concatenate([tone * np.hanning(len(half)) for tone in tones])
    return (0.3 * sound + 0.002 * random.standard_normal(len(sound))).astype(np.float32)


def save(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write in the format that the file name's extension gives."""
    if path.suffix != ".m4a":
        soundfile.write(path, samples, rate)
        return
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = rate
        fifo.write(frame)
        while block := fifo.read(1024, partial=True):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    path.write_bytes(buffer.getvalue())


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def record(folder: Path, speakers: int = 2, takes: int = 5) -> list[dict[str, str]]:
    """Record every word by every speaker, each take in a different format; half of the paths are absolute."""
    folder.mkdir()
    rows = []
    for speaker in range(speakers):
        for take in range(takes):
            rate, kind = KINDS[take % len(KINDS)]
            for word in WORDS:
                path = folder / f"{word}-{speaker}-{take}.{kind}"
                save(path, spoken(word, speaker, take, rate), rate)
                shown = str(path) if take % 2 else f"{folder.name}/{path.name}"
                rows.append({"path": shown, "text": word, "speaker": f"v{speaker}", "language": "xx"})
    return rows
