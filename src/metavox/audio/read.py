"""Any recording in, mono float samples out."""

import io
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from metavox.errors import UserError

MAX_DURATION_S = 4 * 3600.0
AAC_FRAME = 2048  # samples: the most an encoder pads a track with at its end
ALONE = {"protocol_whitelist": "none"}  # no file, port or host that a playlist names
RATES_HZ = (1000, 1_000_000)  # what a header says beyond is nonsense, and would cost minutes to measure
BLOCK = 1 << 20  # samples read at once
LOUDEST = 1e6  # of full scale 1; what is louder is another unit or broken, and its power may overflow


@lru_cache(maxsize=64)
def _members(tar: Path, mtime_ns: int) -> dict[str, tuple[int, int]]:
    with tarfile.open(tar) as archive:
        return {m.name: (m.offset_data, m.size) for m in archive.getmembers() if m.isfile()}


def tar_of(path: Path) -> Path | None:
    """The tar file that a path runs through, if it does."""
    return next((p for p in path.parents if p.suffix == ".tar" and p.is_file()), None)


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a file, or of a tar member when the path runs through a `.tar` file."""
    path = Path(path)
    if tar := tar_of(path):
        member = path.relative_to(tar).as_posix()
        try:
            index = _members(tar, tar.stat().st_mtime_ns)
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"{tar}: not a tar file that can be read ({error})") from error
        if member not in index:
            raise UserError(f"{path}: {tar.name} holds no {member}")
        offset, size = index[member]
        with tar.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such recording")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


class _Bytes(io.BytesIO):
    """Bytes that stay where they are on a seek to nowhere, as a broken header asks for."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def decode(data: bytes, name: str, longest_s: float = MAX_DURATION_S) -> tuple[np.ndarray, int]:
    """Decode to (samples: (time,) float32 mono, sample_rate_hz); all channels are averaged.

    soundfile decodes what libsndfile knows; PyAV takes the rest (m4a, mp4, webm, mkv). `.gsm` and `.au`
    may come without a header, as telephone prompts do. A wav, mp3 or ogg cut short gives what is left.
    Raises UserError on anything that is not audio, on more than `longest_s`, on samples that are no numbers.
    """
    if not data:
        raise UserError(f"{name}: the file is empty; expected a recording")
    try:
        mono, rate = _decode_soundfile(data, name, longest_s)
    except soundfile.LibsndfileError:
        mono, rate = _decode_av(data, name, longest_s)
    if mono.size == 0:
        raise UserError(f"{name}: no sample in it; expected a recording")
    if not np.isfinite(mono).all():
        raise UserError(f"{name}: samples that are not numbers; record or convert it again")
    if (loudest := float(np.abs(mono).max())) > LOUDEST / 2:  # resampling may overshoot
        raise UserError(f"{name}: samples up to {loudest:g}; expected about full scale 1; convert it again")
    return mono, rate


def _decode_soundfile(data: bytes, name: str, longest_s: float) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(_Bytes(data), **_raw(data, name)) as file:
        # In blocks: a broken header may claim more than any memory holds.
        blocks = (file.read(BLOCK, dtype="float32", always_2d=True) for _ in count())
        return _mono(takewhile(len, blocks), file.samplerate, name, longest_s), file.samplerate


def _raw(data: bytes, name: str) -> dict[str, Any]:
    """How to open what has no header: `.gsm` is raw GSM 6.10, `.au` without its header mu-law, at 8 kHz."""
    telephone = {"format": "RAW", "samplerate": 8000, "channels": 1}
    if name.lower().endswith(".gsm"):
        return {**telephone, "subtype": "GSM610"}
    if name.lower().endswith(".au") and not data.startswith(b".snd"):
        return {**telephone, "subtype": "ULAW"}
    return {}


def _decode_av(data: bytes, name: str, longest_s: float) -> tuple[np.ndarray, int]:
    import av

    try:
        with av.open(io.BytesIO(data), options=ALONE) as container:
            sounds = [stream for stream in container.streams.audio if stream.codec_context is not None]
            if not isinstance(container, av.container.InputContainer) or not sounds:
                raise UserError(f"{name}: no sound track in it; expected a recording")
            rate = sounds[0].codec_context.sample_rate
            resampler = av.AudioResampler(format="flt", rate=rate)  # packed: planes of 8 channels crash PyAV
            frames = chain(container.decode(sounds[0]), [None])  # None empties the resampler
            outs = (out for frame in frames for out in resampler.resample(frame))
            blocks = (out.to_ndarray().reshape(-1, out.layout.nb_channels) for out in outs)
            mono = _mono(blocks, rate, name, longest_s)
            length = round((sounds[0].duration or 0) * (sounds[0].time_base or 0) * rate)
            return (mono[:length] if 0 < len(mono) - length < AAC_FRAME and length else mono), rate
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        raise UserError(f"{name}: not audio that can be decoded ({' '.join(str(reason).split())})") from error


def _mono(blocks: Iterable[np.ndarray], rate: int, name: str, longest_s: float) -> np.ndarray:
    """Blocks (time, channel) to one (time,) float32. Raises UserError above `longest_s`."""
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise UserError(
            f"{name}: sample rate {rate} Hz, expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz; record it again"
        )
    parts, length = [np.zeros(0, np.float32)], 0
    for block in blocks:
        length += len(block)
        if length > longest_s * rate:
            raise UserError(f"{name}: over {_spell(longest_s)} long; cut it into shorter files")
        parts.append((block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]).astype(np.float32))
    return np.concatenate(parts)


def _spell(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"


def read_audio(path: Path | str, sample_rate_hz: int = 16000) -> np.ndarray:
    """Samples (time,) float32 mono at `sample_rate_hz`, of a file or a tar member."""
    samples, rate = decode(read_bytes(path), str(path))
    return resample(samples, rate, sample_rate_hz)


def resample(samples: np.ndarray, rate: int, sample_rate_hz: int) -> np.ndarray:
    if rate == sample_rate_hz:
        return samples
    return soxr.resample(samples, rate, sample_rate_hz, quality="MQ").astype(np.float32)
