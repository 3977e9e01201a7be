"""Any recording in, mono float samples out."""

import io
import tarfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from metavox.errors import UserError

MAX_DURATION_S = 4 * 3600.0


@lru_cache(maxsize=64)
def _members(tar: Path, mtime_ns: int) -> dict[str, tuple[int, int]]:
    with tarfile.open(tar) as archive:
        return {m.name: (m.offset_data, m.size) for m in archive.getmembers() if m.isfile()}


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a file, or of a tar member when the path runs through a `.tar` file."""
    path = Path(path)
    for parent in path.parents:
        if parent.suffix == ".tar" and parent.is_file():
            member = path.relative_to(parent).as_posix()
            index = _members(parent, parent.stat().st_mtime_ns)
            if member not in index:
                raise UserError(f"{path}: {parent.name} holds no {member}")
            offset, size = index[member]
            with parent.open("rb") as file:
                file.seek(offset)
                return file.read(size)
    if not path.is_file():
        raise UserError(f"{path}: no such recording")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def decode(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """Decode to (samples: (time,) float32 mono, sample_rate_hz). Raises UserError on anything that is not audio.

    soundfile decodes what libsndfile knows; PyAV takes the rest (m4a, mp4, webm, mkv). A `.gsm` file is
    raw GSM 6.10 at 8 kHz, as telephone prompts come.
    """
    if not data:
        raise UserError(f"{name}: the file is empty; expected a recording")
    try:
        if name.endswith(".gsm"):
            samples, rate = soundfile.read(
                io.BytesIO(data), dtype="float32", always_2d=True,
                format="RAW", subtype="GSM610", samplerate=8000, channels=1,
            )  # fmt: skip
        else:
            samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TypeError, ValueError):
        samples, rate = _decode_av(data, name)
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    if mono.size == 0:
        raise UserError(f"{name}: no sample in it; expected a recording")
    if mono.size / rate > MAX_DURATION_S:
        raise UserError(f"{name}: {mono.size / rate / 3600:.1f} h long; at most {MAX_DURATION_S / 3600:.0f} h")
    if not np.isfinite(mono).all():
        raise UserError(f"{name}: samples that are not numbers; record or convert it again")
    return np.ascontiguousarray(mono), int(rate)


def _decode_av(data: bytes, name: str) -> tuple[np.ndarray, int]:
    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", rate=stream.rate)
            chunks = [
                out.to_ndarray()
                for frame in container.decode(stream)
                for out in resampler.resample(frame)
            ]
            return np.concatenate(chunks, axis=1).T.astype(np.float32), int(stream.rate)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise UserError(f"{name}: not audio that can be decoded ({str(error).splitlines()[0]})") from error


def read_audio(path: Path | str, sample_rate_hz: int = 16000) -> np.ndarray:
    """Samples (time,) float32 mono at `sample_rate_hz`, of a file or a tar member."""
    samples, rate = decode(read_bytes(path), str(path))
    return resample(samples, rate, sample_rate_hz)


def resample(samples: np.ndarray, rate: int, sample_rate_hz: int) -> np.ndarray:
    if rate == sample_rate_hz:
        return samples
    return soxr.resample(samples, rate, sample_rate_hz, quality="MQ").astype(np.float32)
