"""Any recording in, mono float samples out."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from metavox.errors import UserError

if TYPE_CHECKING:
    import av

MAX_DURATION_S = 4 * 3600.0
AAC_FRAME = 2048  # samples: the most an encoder pads a track with at its end
ALONE = {"protocol_whitelist": "none"}  # no file, port or host that a playlist names
RATES_HZ = (1000, 1_000_000)  # what a header says beyond is nonsense, and would cost minutes to measure
BLOCK = 1 << 20  # samples read at once
HEADERS = (b".snd", b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff")
UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # of a WAV that was written as a stream
HOLE_S = 0.1  # of a container's clock; smaller ones are rounded timestamps
CANCELLED = 0.01  # of the channels' power; their average has a half or more unless they are opposed
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
    """Decode to (samples: (time,) float32 mono, sample_rate_hz). All channels are averaged; where they cancel out, as
    with one of them wired the wrong way round, the loudest is taken.

    soundfile decodes what libsndfile knows; PyAV takes the rest (m4a, mp4, webm, mkv), by the container's clock: what
    begins late begins with silence, and a hole is silent. `.gsm` and `.au` may come without a header, as telephone prompts
    do. A wav, mp3 or ogg cut short gives what is left, and a wav whose length nobody filled in all that is there.
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
    with soundfile.SoundFile(_Bytes(_measured(data)), **_raw(data, name)) as file:

        def blocks() -> Iterator[np.ndarray]:
            # In blocks: a broken header may claim more than any memory holds.
            return takewhile(len, (file.read(BLOCK, dtype="float32", always_2d=True) for _ in count()))

        return _mono(blocks, lambda: file.seek(0), file.samplerate, name, longest_s), file.samplerate


def _raw(data: bytes, name: str) -> dict[str, Any]:
    """How to open what has no header: `.gsm` is raw GSM 6.10, each of whose frames begins with 0xD, and `.au` without its
    header mu-law, at 8 kHz. A name that its content contradicts counts for nothing."""
    telephone = {"format": "RAW", "samplerate": 8000, "channels": 1}
    if name.lower().endswith(".gsm") and data[0] >> 4 == 0xD:
        return {**telephone, "subtype": "GSM610"}
    if name.lower().endswith(".au") and not data.startswith(HEADERS):
        return {**telephone, "subtype": "ULAW"}
    return {}


def _measured(data: bytes) -> bytes:
    """A WAV that was written as a stream, whose data chunk says 0 or nothing about its length, with the length filled in."""
    if not (data.startswith(b"RIFF") and data[8:12] == b"WAVE"):
        return data
    at = 12
    while at + 8 <= len(data):
        chunk, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if chunk == b"data":
            rest = len(data) - at - 8
            if size not in UNKNOWN_SIZES or not rest:
                return data
            sizes = ((4, len(data) - 8), (at + 4, rest))
            filled = bytearray(data)
            for place, value in sizes:
                filled[place : place + 4] = min(value, 0xFFFFFFFF).to_bytes(4, "little")
            return bytes(filled)
        at += 8 + size + size % 2
    return data


def _decode_av(data: bytes, name: str, longest_s: float) -> tuple[np.ndarray, int]:
    import av

    try:
        with av.open(io.BytesIO(data), options=ALONE) as container:
            sounds = [stream for stream in container.streams.audio if stream.codec_context is not None]
            if not isinstance(container, av.container.InputContainer) or not sounds:
                raise UserError(f"{name}: no sound track in it; expected a recording")
            sound, rate = sounds[0], sounds[0].codec_context.sample_rate

            def blocks() -> Iterator[np.ndarray]:
                return _by_the_clock(container, sound, rate)

            mono = _mono(blocks, lambda: container.seek(0), rate, name, longest_s)
            begins = ((sound.start_time or 0) * (sound.time_base or 0)) - _begin_s(container)
            length = round(((sound.duration or 0) * (sound.time_base or 0) + max(0, begins)) * rate)
            padded = sound.duration and 0 < len(mono) - length < AAC_FRAME
            return (mono[:length] if padded else mono), rate
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        raise UserError(f"{name}: not audio that can be decoded ({' '.join(str(reason).split())})") from error


def _by_the_clock(
    container: "av.container.InputContainer", sound: "av.AudioStream", rate: int
) -> Iterator[np.ndarray]:
    """Blocks (time, channel), with silence where the container's clock goes on and the sound does not."""
    import av

    resampler = av.AudioResampler(format="flt", rate=rate)  # packed: planes of 8 channels crash PyAV
    begin_s, given = _begin_s(container), 0
    for frame in chain(container.decode(sound), [None]):  # None empties the resampler
        if frame is not None and frame.time is not None:
            hole = round((frame.time - begin_s) * rate) - given
            if hole > HOLE_S * rate:
                given += hole
                yield from _silence(hole, len(frame.layout.channels))
        given += frame.samples if frame is not None else 0
        for out in resampler.resample(frame):
            yield out.to_ndarray().reshape(-1, out.layout.nb_channels)


def _begin_s(container: "av.container.InputContainer") -> float:
    """When the first of a container's streams begins, in seconds of its clock."""
    import av

    return max(0.0, (container.start_time or 0) / av.time_base)


def _silence(samples: int, channels: int) -> Iterator[np.ndarray]:
    """In blocks, so that a clock that jumps by years is over the limit before it is over the memory."""
    for first in range(0, samples, BLOCK):
        yield np.zeros((min(BLOCK, samples - first), channels), np.float32)


def _mono(
    blocks: Callable[[], Iterable[np.ndarray]],
    rewind: Callable[[], object],
    rate: int,
    name: str,
    longest_s: float,
) -> np.ndarray:
    """Blocks (time, channel) to one (time,) float32; they are there again after `rewind`. Raises UserError above
    `longest_s`."""
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise UserError(
            f"{name}: sample rate {rate} Hz, expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz; record it again"
        )
    parts, length, power = [np.zeros(0, np.float32)], 0, np.zeros(1)
    for block in blocks():
        length += len(block)
        if length > longest_s * rate:
            raise UserError(f"{name}: over {_spell(longest_s)} long; cut it into shorter files")
        parts.append((block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]).astype(np.float32))
        if block.shape[1] > 1:
            power = power + np.square(block, dtype=np.float64).sum(axis=0)
    mono = np.concatenate(parts)
    if np.square(mono, dtype=np.float64).sum() < CANCELLED * power.mean():
        loudest = int(power.argmax())
        rewind()
        mono = np.concatenate([block[:, loudest] for block in blocks()]).astype(np.float32)
    return mono


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
