"""The audio of a row: identified by its digest, checked by its header, then decoded, measured and encoded.

Nothing over the time limit is decoded, and of a long recording only the segment that the row covers.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import soundfile

from metavox.audio.intact import damage, streams
from metavox.audio.measure import measure
from metavox.audio.mono import RATES_HZ
from metavox.audio.read import AV_OPTIONS, decode
from metavox.errors import UserError
from metavox.ingest.incoming import AudioLocation

RATE_HZ = 16000  # the prepare stage resamples every recording to this rate
SUFFIXES = {"WAV": {".wav", ".wave"}, "FLAC": {".flac"}, "OGG": {".ogg", ".oga", ".opus"}, "MP3": {".mp3"}}
KNOWN_SUFFIXES = set().union(*SUFFIXES.values())
UNKNOWN_FRAMES = 1 << 60  # libsndfile reports at least this many frames if the header has no length
HEAD_BYTES = 1 << 16
TELEPHONE_HZ = 8000
MAX_UNBOUNDED_S = 4 * 3600  # decoded at most, where neither the header nor the row gives an end
ADVICE = "cut it into utterances and list their times in a Kaldi `segments` file or in lhotse cuts"


@dataclass(frozen=True)
class Header:
    duration_s: float  # 0 if unknown
    sample_rate: int
    channels: int
    convert: bool  # libsndfile cannot read it, or it contains a picture
    format: str = ""  # a key of SUFFIXES, or empty


@dataclass(frozen=True)
class Inspection:
    """What inspecting the audio found; if there is an `error`, nothing else is set."""

    error: str = ""
    sha256: str = ""  # of the bytes that the corpus is to store
    sample_rate: int = 0
    measures: dict[str, float] | None = None
    notes: tuple[str, ...] = ()
    convert: bool = False


def open_audio(location: AudioLocation) -> io.BufferedReader | io.BytesIO:
    """The bytes of the whole file or member that holds the audio. Raises OSError."""
    if location.offset is None:
        return open(location.file, "rb")
    with open(location.file, "rb") as file:
        file.seek(location.offset)
        return io.BytesIO(file.read(location.size))


def digest(location: AudioLocation) -> str:
    """The SHA-256 of the whole file or member that holds the audio, whatever the segment. Raises OSError."""
    status = Path(location.file).stat()
    size = status.st_size if location.offset is None else location.size
    return _digest(location.file, location.offset, size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(file: str, offset: int | None, size: int | None, mtime_ns: int) -> str:
    with open_audio(AudioLocation(file, offset, size)) as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def origin(sha256: str, location: AudioLocation) -> str:
    """16 hex digits that identify the original of a segment or of a file that is re-encoded.

    They go into the name it is stored under, so that the next add recognises it without decoding it again.
    """
    return hashlib.sha256(f"{sha256}|{location.segment}".encode()).hexdigest()[:16]


def is_decodable(location: AudioLocation) -> bool:
    """Whether the header is one of an audio format."""
    try:
        _header(location)
    except (OSError, UserError, ValueError):
        return False
    return True


def inspect_audio(location: AudioLocation, max_duration_s: float) -> Inspection:
    """Decode and measure the audio; any problem with it is in `error`."""
    try:
        header = _header(location)
        samples, rate = _samples(location, header, max_duration_s)
        if not location.segment and (problem := damage(_bytes(location))):
            raise UserError(f"{problem}; copy or convert it again")
        convert = header.convert or bool(location.segment)
        sha256 = hashlib.sha256(_flac(samples, rate)).hexdigest() if convert else digest(location)
    except (UserError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Inspection(error=" ".join(str(reason).split()))
    notes = tuple(_notes(location, header))
    return Inspection("", sha256, rate, asdict(measure(samples, rate)), notes, convert)


def inspector(max_duration_s: float) -> Callable[[AudioLocation], Inspection]:
    """`inspect_audio` as a function of one argument, for a process pool to map."""
    return partial(inspect_audio, max_duration_s=max_duration_s)


def encoded(location: AudioLocation, convert: bool) -> bytes:
    """The bytes for the corpus: the original ones, or FLAC if `convert`. Raises OSError, UserError."""
    if not convert:
        return _bytes(location)
    return _flac(*_samples(location, _header(location), float("inf")))


def _bytes(location: AudioLocation) -> bytes:
    with open_audio(location) as file:
        return file.read()


def _flac(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _notes(location: AudioLocation, header: Header) -> list[str]:
    notes = []
    if header.channels > 1 and location.channel is None:
        notes.append(
            f"{header.channels} channels: averaged to mono, or only the loudest where they cancel out"
        )
    if header.sample_rate != RATE_HZ:
        notes.append(f"{header.sample_rate} Hz: the prepare stage will resample it to {RATE_HZ} Hz")
    suffix = PurePosixPath(location.name).suffix.lower()
    if header.format and suffix in KNOWN_SUFFIXES - SUFFIXES[header.format]:
        notes.append(f"its content is {header.format}, not what its file extension says")
    if not location.segment and (count := streams(_bytes(location))) > 1:
        notes.append(f"only the first of {count} streams in the file is read")
    if location.segment:
        notes.append("cut out of a longer recording, stored as 16-bit FLAC")
    elif header.convert:
        notes.append(
            "only its audio is stored, as 16-bit FLAC: libsndfile cannot read the file, or it contains a picture"
        )
    return notes


def _header(location: AudioLocation) -> Header:
    """What the file says about itself. Raises OSError, and UserError if it is not audio."""
    with open_audio(location) as file:
        head = file.read(HEAD_BYTES)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not size:
            raise UserError("the file is empty; expected a recording")
        name = location.name.lower()
        if name.endswith(".gsm") or (name.endswith(".au") and not head.startswith(b".snd")):
            bytes_per_s = 1650 if name.endswith(".gsm") else TELEPHONE_HZ
            return Header(size / bytes_per_s, TELEPHONE_HZ, 1, convert=False)
        try:
            with soundfile.SoundFile(file) as audio:
                known = 0 < audio.frames < UNKNOWN_FRAMES
                duration_s = audio.frames / audio.samplerate if known else 0.0
                container = audio.format if audio.format in SUFFIXES else ""
                return Header(duration_s, audio.samplerate, audio.channels, b"\x80theora" in head, container)
        except soundfile.LibsndfileError:
            file.seek(0)
            return _av_header(file)


def _av_header(file: IO[bytes]) -> Header:
    import av

    try:
        with av.open(file, "r", options=AV_OPTIONS) as container:
            track = _audio_track(container)
            duration_s = (
                float((track.duration or 0) * (track.time_base or 0)) or (container.duration or 0) / 1e6
            )
            codec = track.codec_context
            return Header(duration_s, codec.sample_rate, codec.channels, convert=True)
    except (av.FFmpegError, ValueError) as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(f"not audio that can be decoded ({reason})")


def _audio_track(container: Any) -> Any:
    tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not tracks:
        raise UserError("no audio track; expected a recording")
    return tracks[0]


def _samples(location: AudioLocation, header: Header, max_duration_s: float) -> tuple[np.ndarray, int]:
    """(mono samples (time,) float32, rate in Hz). Raises UserError above the limit, undecoded if possible."""
    if not RATES_HZ[0] <= header.sample_rate <= RATES_HZ[1]:
        raise UserError(f"sample rate {header.sample_rate} Hz, expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    start_s, end_s = location.start_s or 0.0, location.end_s
    length_s = (header.duration_s if end_s is None else end_s) - start_s
    if length_s > max_duration_s:
        raise UserError(f"lasts {length_s:.1f} s, expected at most {max_duration_s:g} s; {ADVICE}")
    if not location.segment and header.duration_s > 0:
        return _decode(_bytes(location), Path(location.name).suffix)
    until_s = end_s if end_s is not None else start_s + min(max_duration_s, MAX_UNBOUNDED_S) + 1
    samples, rate = _read_segment(location, start_s, until_s)
    if not samples.size:
        raise UserError(f"no samples after {start_s:g} s; expected a recording")
    if len(samples) > max_duration_s * rate and end_s is None:
        raise UserError(f"lasts more than {max_duration_s:g} s; {ADVICE}")
    if location.channel is not None and location.channel >= samples.shape[1]:
        raise UserError(f"no channel {location.channel}: it has {samples.shape[1]}, numbered from 0")
    mono = samples.mean(axis=1) if location.channel is None else samples[:, location.channel]
    if not np.isfinite(mono).all():
        raise UserError("samples that are not numbers; record or convert it again")
    return mono.astype(np.float32), rate


def _decode(data: bytes, suffix: str) -> tuple[np.ndarray, int]:
    name = f"recording{suffix}"
    try:
        return decode(data, name)
    except UserError as error:
        raise UserError(str(error).removeprefix(f"{name}: ")) from error


def _read_segment(location: AudioLocation, start_s: float, end_s: float) -> tuple[np.ndarray, int]:
    """(samples (time, channel), rate in Hz) between two times; fewer if the recording ends before."""
    with open_audio(location) as file:
        try:
            with soundfile.SoundFile(file) as audio:
                first = round(start_s * audio.samplerate)
                if first >= audio.frames:
                    return np.zeros((0, audio.channels), np.float32), audio.samplerate
                audio.seek(first)
                length = round(end_s * audio.samplerate) - first
                return audio.read(length, dtype="float32", always_2d=True), audio.samplerate
        except soundfile.LibsndfileError:
            file.seek(0)
            return _av_read_segment(file, start_s, end_s)


def _av_read_segment(file: IO[bytes], start_s: float, end_s: float) -> tuple[np.ndarray, int]:
    import av

    blocks: list[np.ndarray] = []
    try:
        with av.open(file, "r", options=AV_OPTIONS) as container:
            track = _audio_track(container)
            rate, channels = track.codec_context.sample_rate, track.codec_context.channels
            resampler = av.AudioResampler(format="flt", rate=rate)
            first, last, position = round(start_s * rate), round(end_s * rate), 0
            for frame in chain(container.decode(track), [None]):
                for resampled in resampler.resample(frame):
                    block = resampled.to_ndarray().reshape(-1, resampled.layout.nb_channels)
                    blocks.append(block[max(0, first - position) : max(0, last - position)])
                    position += len(block)
                if position >= last:
                    break
    except (av.FFmpegError, ValueError) as error:
        raise _undecodable(error) from error
    return np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32), rate
