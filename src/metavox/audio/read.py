"""Reads any recording as mono float samples."""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, count, islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
import soundfile
import soxr

from metavox.audio.bytestream import ByteStream
from metavox.audio.mono import MAX_DURATION_S, QUALITY, Recording, Request, stream_mono, to_mono
from metavox.errors import UserError

if TYPE_CHECKING:
    import av

AAC_FRAME = 2048  # samples: the most that an encoder pads a track with at its end
AV_OPTIONS = {"protocol_whitelist": "none"}  # open no file or URL that a playlist names
BLOCK = 1 << 16  # samples decoded at once
MAGIC_NUMBERS = (b".snd", b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff")
MAX_STREAM_S = 48 * 3600.0
MIN_GAP_S = 0.1  # of a container's clock; smaller gaps are rounded timestamps
T = TypeVar("T")
Blocks = Callable[[], Iterable[np.ndarray]]
Use = Callable[[Blocks, Callable[[], object], int, Request], T]
"""What is done with a recording's blocks (time, channel), of which it is given: how to read them from the start, how
to go back there, their sample rate, and what the caller asked for."""


@lru_cache(maxsize=64)
def _members(tar: Path, mtime_ns: int) -> dict[str, tuple[int, int]]:
    with tarfile.open(tar) as archive:
        return {m.name: (m.offset_data, m.size) for m in archive.getmembers() if m.isfile()}


def tar_of(path: Path) -> Path | None:
    """The tar file that a path runs through, or None."""
    return next((p for p in path.parents if p.suffix == ".tar" and p.is_file()), None)


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a file, or of a tar member if the path runs through a `.tar` file.

    Raises UserError if there is no such file or member, or if it cannot be read.
    """
    path = Path(path)
    if tar := tar_of(path):
        member = path.relative_to(tar).as_posix()
        try:
            index = _members(tar, tar.stat().st_mtime_ns)
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"{tar}: not a tar file that can be read ({error}); copy it again") from error
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


def decode(data: bytes, name: str, longest_s: float = MAX_DURATION_S) -> tuple[np.ndarray, int]:
    """Decode to mono samples (time,) float32 and their own sample rate in Hz. See `decode_recording`."""
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

    `channel`, counted from 1, selects one channel; otherwise all channels are averaged, or, if they cancel
    out because one is wired the wrong way round, the loudest is used. Decoding, mixing and resampling go
    block by block, so memory holds little more than the returned samples, and stop as soon as there are more
    than `longest_s` seconds.

    soundfile decodes what libsndfile knows; PyAV decodes the rest (m4a, mp4, webm, mkv) by the container's
    clock: audio that starts late starts with silence, and gaps are silent. `.gsm` and `.au` may lack a
    header, as telephone prompts do. A wav, mp3 or ogg that was cut short gives what is left, and a wav whose
    header lacks a length gives all that is there.

    Raises TooLong above `longest_s`; UserError for anything that is not audio, a channel that is not there,
    and samples that are not finite numbers.
    """
    return _decoded(data, Request(name, sample_rate_hz, channel, longest_s), to_mono)


def _decoded(data: bytes | BinaryIO, request: Request, use: Use[T]) -> T:
    """Open a recording and `use` its blocks."""
    stream = ByteStream(io.BytesIO(data) if isinstance(data, bytes) else data)
    try:
        if not stream.head(1) and not stream.failure:
            raise UserError(f"{request.name}: the file is empty; expected a recording")
        try:
            return _decode_soundfile(stream, request, use)
        except soundfile.LibsndfileError:
            stream.seek(0)
            return _decode_av(stream, request, use)
    finally:
        if stream.failure:
            raise UserError(f"{request.name}: cannot be read ({stream.failure.strerror})") from stream.failure


def _decode_soundfile(stream: ByteStream, request: Request, use: Use[T]) -> T:
    with soundfile.SoundFile(stream, **_headerless_format(stream, request.name)) as file:

        def blocks() -> Iterator[np.ndarray]:
            # In blocks, because a broken header may claim more than any memory holds.
            return takewhile(len, (file.read(BLOCK, dtype="float32", always_2d=True) for _ in count()))

        return use(blocks, lambda: file.seek(0), file.samplerate, request)


def _headerless_format(stream: ByteStream, name: str) -> dict[str, Any]:
    """The options that open a file without a header, or none if it has one.

    `.gsm` is raw GSM 6.10, each of whose frames begins with 0xD; `.au` without its header is mu-law; both at
    8 kHz. The name does not count if the content contradicts it.
    """
    telephone = {"format": "RAW", "samplerate": 8000, "channels": 1}
    head = stream.head(4)
    if name.lower().endswith(".gsm") and head[0] >> 4 == 0xD:
        return {**telephone, "subtype": "GSM610"}
    if name.lower().endswith(".au") and not head.startswith(MAGIC_NUMBERS):
        return {**telephone, "subtype": "ULAW"}
    return {}


def _decode_av(stream: ByteStream, request: Request, use: Use[T]) -> T:
    import av

    try:
        with av.open(stream, options=AV_OPTIONS) as container:
            tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
            if not isinstance(container, av.container.InputContainer) or not tracks:
                raise UserError(f"{request.name}: has no sound track; expected a recording")
            track, rate = tracks[0], tracks[0].codec_context.sample_rate
            start_s = ((track.start_time or 0) * (track.time_base or 0)) - _container_start_s(container)
            length = round(((track.duration or 0) * (track.time_base or 0) + max(0, start_s)) * rate)

            def blocks() -> Iterator[np.ndarray]:
                decoded = _merge_small_blocks(_frames_by_clock(container, track, rate))
                return _without_encoder_padding(decoded, length) if track.duration else decoded

            return use(blocks, lambda: container.seek(0), rate, request)
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        message = f"{request.name}: not audio that can be decoded ({' '.join(str(reason).split())})"
        raise UserError(message) from error


def _merge_small_blocks(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples in blocks of at least BLOCK.

    FFmpeg's frames of 20 ms would cost more in calls than in arithmetic.
    """
    pending: list[np.ndarray] = []
    samples = 0
    for block in blocks:
        if pending and block.shape[1] != pending[0].shape[1]:  # a stream may change its layout
            yield np.concatenate(pending)
            pending, samples = [], 0
        pending.append(block)
        samples += len(block)
        if samples >= BLOCK:
            yield np.concatenate(pending)
            pending, samples = [], 0
    if pending:
        yield np.concatenate(pending)


def _without_encoder_padding(blocks: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Blocks (time, channel) up to `length` samples, unless more follow than an encoder pads with."""
    position, pending = 0, []
    for block in blocks:
        pending.append(block)
        position += len(block)
        if position <= length or position >= length + AAC_FRAME:
            yield from pending
            pending = []
    if pending:
        last = np.concatenate(pending)
        yield last[: length - (position - len(last))]


def _frames_by_clock(
    container: "av.container.InputContainer", track: "av.AudioStream", rate: int
) -> Iterator[np.ndarray]:
    """Blocks (time, channel), with silence wherever the container's clock runs on without audio."""
    import av

    resampler = av.AudioResampler(format="flt", rate=rate)  # packed: planes of 8 channels crash PyAV
    begin_s, position = _container_start_s(container), 0
    for frame in chain(container.decode(track), [None]):  # None flushes the resampler
        if frame is not None and frame.time is not None:
            gap = round((frame.time - begin_s) * rate) - position
            if gap > MIN_GAP_S * rate:
                position += gap
                yield from _silence(gap, len(frame.layout.channels))
        position += frame.samples if frame is not None else 0
        for out in resampler.resample(frame):
            yield out.to_ndarray().reshape(-1, out.layout.nb_channels)


def _container_start_s(container: "av.container.InputContainer") -> float:
    """When the first of the container's streams starts, in seconds of its clock."""
    import av

    return max(0.0, (container.start_time or 0) / av.time_base)


def _silence(samples: int, channels: int) -> Iterator[np.ndarray]:
    """Silence in blocks, so that a clock that jumps by years hits the duration limit before it fills memory."""
    for first in range(0, samples, BLOCK):
        yield np.zeros((min(BLOCK, samples - first), channels), np.float32)


def read_audio(path: Path | str, sample_rate_hz: int = 16000) -> np.ndarray:
    """Samples (time,) float32 mono at `sample_rate_hz` of a file or a tar member. Raises UserError as
    `decode_recording` does.
    """
    return read_recording(path, sample_rate_hz).samples


def read_recording(path: Path | str, sample_rate_hz: int = 16000, channel: int | None = None) -> Recording:
    """A file or a tar member at `sample_rate_hz`: one of its channels, counted from 1, or a mix of all.

    A file is decoded as it is read and never held in memory as a whole. Raises UserError as
    `decode_recording` does.
    """
    return _opened(path, Request(str(path), sample_rate_hz, channel), to_mono)


def stream_recording(
    path: Path | str,
    consume: Callable[[np.ndarray], object],
    sample_rate_hz: int = 16000,
    channel: int | None = None,
    longest_s: float = MAX_STREAM_S,
) -> float | None:
    """As `read_recording`, but `consume` is given one block (time,) after the other, so that memory does not depend on
    the length. Returns the correlation of the channels' speakers, as `Recording` has it.
    """
    given = 0

    def use(blocks: Blocks, rewind: Callable[[], object], rate: int, request: Request) -> float | None:
        """Called again, by another decoder, for a file that is broken somewhere: what was given already is left out."""
        begin, seen = given, 0

        def give(block: np.ndarray) -> None:
            nonlocal seen, given
            seen += len(block)
            new = block[len(block) - min(len(block), max(0, seen - begin)) :]
            given += len(new)
            if len(new):
                consume(new)

        return stream_mono(blocks, rewind, rate, request, give)

    return _opened(path, Request(str(path), sample_rate_hz, channel, longest_s), use)


def count_channels(path: Path | str) -> int:
    """The number of channels of a recording. Raises UserError as `decode_recording` does."""
    return _opened(
        path,
        Request(str(path)),
        lambda blocks, *_: max((block.shape[1] for block in islice(blocks(), 1)), default=1),
    )


def _opened(path: Path | str, request: Request, use: Use[T]) -> T:
    if tar_of(Path(path)):
        return _decoded(read_bytes(path), request, use)
    try:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such recording")
        with Path(path).open("rb") as file:
            return _decoded(file, request, use)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def resample(samples: np.ndarray, rate: int, sample_rate_hz: int) -> np.ndarray:
    """Resample samples (time,) from `rate` to `sample_rate_hz`; returns the same object if the rates are
    equal.
    """
    if rate == sample_rate_hz:
        return samples
    return soxr.resample(samples, rate, sample_rate_hz, quality=QUALITY).astype(np.float32)
