"""Small real recordings in the layouts that users have, and how tests add them to a corpus."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from metavox.dataset.shards import dvc_digest
from metavox.ingest import AddOptions, AddResult, add
from metavox.params import Validate

LIMITS = Validate()
WORDS = ("yes", "no", "stop")


def no_progress(step: str, done: int, total: int) -> None:
    pass


def sound(seed: int, seconds: float = 0.5, rate: int = 16000, channels: int = 1) -> np.ndarray:
    """A modulated tone with a little noise, (time,) or (time, channel); each seed gives a different one."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    tones = np.sin(2 * np.pi * (random.uniform(300, 900) + 900 * time / seconds) * time) * np.sin(
        4 * np.pi * time
    )
    noisy = 0.4 * tones + 0.002 * random.standard_normal(len(time))
    return noisy if channels == 1 else np.stack([noisy] * channels, axis=1)


def record(path: Path, seed: int, seconds: float = 0.5, rate: int = 16000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(seed, seconds, rate, channels), rate)
    return path


def video(path: Path, seed: int, seconds: float = 0.6) -> Path:
    """An mp4 with a video and an audio track."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = sound(seed, seconds).astype(np.float32)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(int(seconds * 10)):
            still = np.zeros((32, 32, 3), np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(still, format="rgb24")))
        container.mux(picture.encode(None))
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = 16000
        fifo.write(frame)
        while block := fifo.read(1024, partial=True):
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return path


def label_folders(root: Path, words: Iterable[str] = WORDS, each: int = 2, first: int = 0) -> Path:
    """ROOT/word/N.wav."""
    for index, word in enumerate(words):
        for take in range(each):
            record(root / word / f"{take}.wav", first + index * each + take)
    return root


def table(path: Path, rows: Iterable[str], header: str = "path,text,speaker,language") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def run_add(
    source: Path,
    into: Path,
    dry_run: bool = False,
    limits: Validate = LIMITS,
    progress: Callable[[str, int, int], None] = no_progress,
    **options: Any,
) -> dict[str, Any]:
    """Add recordings; returns what `--json` would hold."""
    with add(source, AddOptions(**options), into, limits, dry_run, progress) as result:
        return as_report(result)


def as_report(result: AddResult) -> dict[str, Any]:
    report = {
        name: list(value) if isinstance(value, Iterator) else value
        for name, value in result.sections().items()
    }
    assert report["counts"] == {name: len(report[name]) for name in ("take", "have", "refuse")}
    return report


def accepted(report: dict[str, Any], *names: str) -> dict[str, Any]:
    """One value of each accepted row, or a tuple of several, by path."""
    return {
        row["path"]: row[names[0]] if len(names) == 1 else tuple(row[n] for n in names)
        for row in report["take"]
    }


def refused(report: dict[str, Any]) -> dict[str, str]:
    return {row["path"]: "; ".join(row["reasons"]) for row in report["refuse"]}


def tree_digest(folder: Path) -> str:
    """The digest of a folder, hidden files included; empty if there is none."""
    return dvc_digest(folder) if folder.exists() else ""
