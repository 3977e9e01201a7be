"""Any recording in, mono float samples out."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile
import soxr

from metavox.audio.bytestream import ByteStream
from metavox.audio.channels import ChannelStatistics
from metavox.errors import UserError

if TYPE_CHECKING:
    import av

MAX_DURATION_S = 4 * 3600.0
AAC_FRAME = 2048  # samples: the most an encoder pads a track with at its end
ALONE = {"protocol_whitelist": "none"}  # no file, port or host that a playlist names
RATES_HZ = (1000, 1_000_000)  # what a header says beyond is nonsense, and would cost minutes to measure
BLOCK = 1 << 16  # samples read at once
QUALITY = "MQ"  # of soxr
HEADERS = (b".snd", b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff")
HOLE_S = 0.1  # of a container's clock; smaller ones are rounded timestamps
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


@dataclass(frozen=True)
class Recording:
    """Samples (time,) float32 mono, and how they came out of the file's channels."""

    samples: np.ndarray
    sample_rate_hz: int
    speakers_correlation: float | None = None  # of two channels with a speaker each that were mixed

    @property
    def warning(self) -> str:
        """What should be said about the channels, without the file's name; empty where there is nothing."""
        if self.speakers_correlation is None:
            return ""
        return (
            f"its two channels differ (correlation {self.speakers_correlation:.2f}), as in a call with one speaker "
            "a channel; they were mixed"
        )


class TooLong(UserError):
    """A recording is longer than the caller takes."""


@dataclass(frozen=True)
class _Wanted:
    """What a caller wants of a recording called `name`."""

    name: str
    sample_rate_hz: int | None = None  # the file's own where it is None
    channel: int | None = None  # from 1; None mixes them
    longest_s: float = MAX_DURATION_S


def decode(data: bytes, name: str, longest_s: float = MAX_DURATION_S) -> tuple[np.ndarray, int]:
    """Decode to (samples: (time,) float32 mono, sample_rate_hz), at the recording's own rate. See `decode_recording`."""
    recording = decode_recording(data, name, longest_s=longest_s)
    return recording.samples, recording.sample_rate_hz


def decode_recording(
    data: bytes | BinaryIO,
    name: str,
    sample_rate_hz: int | None = None,
    channel: int | None = None,
    longest_s: float = MAX_DURATION_S,
) -> Recording:
    """Decode bytes or an open file to mono at `sample_rate_hz`, or at the recording's own rate.

    All channels are averaged; where they cancel out, as with one of them wired the wrong way round, the loudest is taken.
    `channel` takes one of them, counted from 1. Decoding, mixing and resampling go block by block, so that memory holds
    little more than the samples returned, and stop as soon as there are more than `longest_s`.

    soundfile decodes what libsndfile knows; PyAV takes the rest (m4a, mp4, webm, mkv), by the container's clock: what
    begins late begins with silence, and a hole is silent. `.gsm` and `.au` may come without a header, as telephone prompts
    do. A wav, mp3 or ogg cut short gives what is left, and a wav whose length nobody filled in all that is there.
    Raises TooLong above `longest_s`, UserError on anything that is not audio, on a channel that is not there, on samples
    that are no numbers.
    """
    stream = ByteStream(io.BytesIO(data) if isinstance(data, bytes) else data)
    wanted = _Wanted(name, sample_rate_hz, channel, longest_s)
    try:
        if not stream.head(1) and not stream.failure:
            raise UserError(f"{name}: the file is empty; expected a recording")
        try:
            return _decode_soundfile(stream, wanted)
        except soundfile.LibsndfileError:
            stream.seek(0)
            return _decode_av(stream, wanted)
    finally:
        if stream.failure:
            raise UserError(f"{name}: cannot be read ({stream.failure.strerror})") from stream.failure


def _decode_soundfile(stream: ByteStream, wanted: _Wanted) -> Recording:
    with soundfile.SoundFile(stream, **_raw(stream, wanted.name)) as file:

        def blocks() -> Iterator[np.ndarray]:
            # In blocks: a broken header may claim more than any memory holds.
            return takewhile(len, (file.read(BLOCK, dtype="float32", always_2d=True) for _ in count()))

        return _mono(blocks, lambda: file.seek(0), file.samplerate, wanted)


def _raw(stream: ByteStream, name: str) -> dict[str, Any]:
    """How to open what has no header: `.gsm` is raw GSM 6.10, each of whose frames begins with 0xD, and `.au` without its
    header mu-law, at 8 kHz. A name that its content contradicts counts for nothing."""
    telephone = {"format": "RAW", "samplerate": 8000, "channels": 1}
    head = stream.head(4)
    if name.lower().endswith(".gsm") and head[0] >> 4 == 0xD:
        return {**telephone, "subtype": "GSM610"}
    if name.lower().endswith(".au") and not head.startswith(HEADERS):
        return {**telephone, "subtype": "ULAW"}
    return {}


def _decode_av(stream: ByteStream, wanted: _Wanted) -> Recording:
    import av

    try:
        with av.open(stream, options=ALONE) as container:
            sounds = [stream for stream in container.streams.audio if stream.codec_context is not None]
            if not isinstance(container, av.container.InputContainer) or not sounds:
                raise UserError(f"{wanted.name}: no sound track in it; expected a recording")
            sound, rate = sounds[0], sounds[0].codec_context.sample_rate
            begins = ((sound.start_time or 0) * (sound.time_base or 0)) - _begin_s(container)
            length = round(((sound.duration or 0) * (sound.time_base or 0) + max(0, begins)) * rate)

            def blocks() -> Iterator[np.ndarray]:
                decoded = _gathered(_by_the_clock(container, sound, rate))
                return _without_padding(decoded, length) if sound.duration else decoded

            return _mono(blocks, lambda: container.seek(0), rate, wanted)
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        message = f"{wanted.name}: not audio that can be decoded ({' '.join(str(reason).split())})"
        raise UserError(message) from error


def _gathered(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples in blocks of BLOCK or more: FFmpeg's frames of 20 ms would cost more in calls than in arithmetic."""
    held: list[np.ndarray] = []
    samples = 0
    for block in blocks:
        if held and block.shape[1] != held[0].shape[1]:  # a stream may change its layout
            yield np.concatenate(held)
            held, samples = [], 0
        held.append(block)
        samples += len(block)
        if samples >= BLOCK:
            yield np.concatenate(held)
            held, samples = [], 0
    if held:
        yield np.concatenate(held)


def _without_padding(blocks: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Blocks (time, channel) up to `length` samples, unless so many more come that they are no encoder's padding."""
    given, held = 0, []
    for block in blocks:
        held.append(block)
        given += len(block)
        if given <= length or given >= length + AAC_FRAME:
            yield from held
            held = []
    if held:
        last = np.concatenate(held)
        yield last[: length - (given - len(last))]


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
    blocks: Callable[[], Iterable[np.ndarray]], rewind: Callable[[], object], rate: int, wanted: _Wanted
) -> Recording:
    """Blocks (time, channel) at `rate` to one channel at the rate wanted; after `rewind`, `blocks` gives them again."""
    name = wanted.name
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise UserError(
            f"{name}: sample rate {rate} Hz, expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz; record it again"
        )
    statistics = ChannelStatistics(rate)
    mono = _Mono(rate, wanted)
    for block in blocks():
        if wanted.channel is None:
            statistics.add(block)
        mono.add(block, wanted.channel)
    correlation = statistics.correlation_of_speakers()
    if statistics.cancel_out(mono.power):
        loudest = int(statistics.power.argmax()) + 1
        rewind()
        mono = _Mono(rate, wanted)
        for block in blocks():
            mono.add(block, loudest)
    return Recording(mono.finish(), wanted.sample_rate_hz or rate, correlation)


class _Mono:
    """One channel that grows by blocks, resampled on the way. Raises UserError for what no recording holds."""

    def __init__(self, rate: int, wanted: _Wanted):
        self.power = 0.0  # summed over all samples, before resampling
        self._wanted, self._rate, self._length = wanted, rate, 0
        # Grows in place. A list of arrays would take all of it twice, at the moment when they become one.
        self._samples = bytearray()
        target = wanted.sample_rate_hz or rate
        self._resampler = None if target == rate else soxr.ResampleStream(rate, target, 1, "float32", QUALITY)

    def add(self, block: np.ndarray, channel: int | None) -> None:
        """A block (time, channel): one of its channels, counted from 1, or the mean of all."""
        name, longest_s, channels = self._wanted.name, self._wanted.longest_s, block.shape[1]
        self._length += len(block)
        if self._length > longest_s * self._rate:
            raise TooLong(f"{name}: over {_spell(longest_s)} long; cut it into shorter files")
        if channel is not None and not 1 <= channel <= channels:
            has = "1 channel" if channels == 1 else f"{channels} channels"
            raise UserError(f"{name}: no channel {channel}: it has {has}; choose another, or mix them")
        mixed = channel is None and channels > 1
        chosen = block.mean(axis=1) if mixed else block[:, (channel or 1) - 1]
        samples = np.ascontiguousarray(chosen, np.float32)
        _check(samples, name)
        self.power += float(np.square(samples, dtype=np.float64).sum())
        self._keep(samples, last=False)

    def finish(self) -> np.ndarray:
        """All samples (time,) at the rate wanted. Raises UserError where there are none."""
        if not self._length:
            raise UserError(f"{self._wanted.name}: no sample in it; expected a recording")
        self._keep(np.zeros(0, np.float32), last=True)
        # Fewer samples than one at the rate wanted leave nothing, which `frombuffer` refuses.
        return np.frombuffer(self._samples, np.float32) if self._samples else np.zeros(0, np.float32)

    def _keep(self, samples: np.ndarray, last: bool) -> None:
        resampled = self._resampler.resample_chunk(samples, last) if self._resampler else samples
        self._samples.extend(resampled.data)


def _check(samples: np.ndarray, name: str) -> None:
    """Raises UserError for samples that are no numbers or far beyond full scale."""
    loudest = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(loudest):
        raise UserError(f"{name}: samples that are not numbers; record or convert it again")
    if loudest > LOUDEST / 2:  # resampling may overshoot
        raise UserError(f"{name}: samples up to {loudest:g}; expected about full scale 1; convert it again")


def _spell(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min"


def read_audio(path: Path | str, sample_rate_hz: int = 16000) -> np.ndarray:
    """Samples (time,) float32 mono at `sample_rate_hz`, of a file or a tar member. Raises UserError."""
    return read_recording(path, sample_rate_hz).samples


def read_recording(path: Path | str, sample_rate_hz: int = 16000, channel: int | None = None) -> Recording:
    """A file or a tar member at `sample_rate_hz`: one of its channels, counted from 1, or a mix. Raises UserError.

    A file is read as it is decoded, and never held in memory as a whole.
    """
    if tar_of(Path(path)):
        return decode_recording(read_bytes(path), str(path), sample_rate_hz, channel)
    try:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such recording")
        with Path(path).open("rb") as file:
            return decode_recording(file, str(path), sample_rate_hz, channel)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def resample(samples: np.ndarray, rate: int, sample_rate_hz: int) -> np.ndarray:
    """Samples (time,) from `rate` to `sample_rate_hz`; the same object where they are equal."""
    if rate == sample_rate_hz:
        return samples
    return soxr.resample(samples, rate, sample_rate_hz, quality=QUALITY).astype(np.float32)
