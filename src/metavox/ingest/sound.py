"""The sound of a row: told apart by its digest, looked at by its header, then decoded, measured and encoded.

Nothing longer than the limit is decoded, and of a long recording only the part that is wanted.
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
from metavox.audio.measure import Measures, measure
from metavox.audio.mono import RATES_HZ
from metavox.audio.read import AV_OPTIONS, decode
from metavox.errors import UserError
from metavox.ingest.incoming import Place

RATE_HZ = 16000  # what prepare turns every recording into
SUFFIXES = {"WAV": {".wav", ".wave"}, "FLAC": {".flac"}, "OGG": {".ogg", ".oga", ".opus"}, "MP3": {".mp3"}}
MISNOMERS = set().union(*SUFFIXES.values())
UNKNOWN_FRAMES = 1 << 60  # libsndfile's word for a length that no header tells
HEAD = 1 << 16
TELEPHONE_HZ = 8000
WHAT_TO_DO = "cut it into utterances and say where in a Kaldi `segments` file or in Lhotse cuts"


@dataclass(frozen=True)
class Header:
    duration_s: float  # 0 where nobody knows
    sample_rate: int
    channels: int
    convert: bool  # libsndfile cannot read it, or there is a picture in it
    format: str = ""  # one of SUFFIXES, or empty


@dataclass(frozen=True)
class Examined:
    """What was found in a sound; with `error` nothing else."""

    error: str = ""
    sha256: str = ""  # of the bytes that the corpus is to store
    sample_rate: int = 0
    measures: dict[str, float] | None = None
    notes: tuple[str, ...] = ()
    convert: bool = False


def opened(place: Place) -> io.BufferedReader | io.BytesIO:
    """The bytes of the file that the sound is in. Raises OSError."""
    if place.offset is None:
        return open(place.file, "rb")
    with open(place.file, "rb") as file:
        file.seek(place.offset)
        return io.BytesIO(file.read(place.size))


def digest(place: Place) -> str:
    """The SHA-256 of the whole file that the sound is in, whatever part is wanted. Raises OSError."""
    found = Path(place.file).stat()
    size = found.st_size if place.offset is None else place.size
    return _digest(place.file, place.offset, size, found.st_mtime_ns)


@lru_cache(maxsize=256)
def _digest(file: str, offset: int | None, size: int | None, mtime_ns: int) -> str:
    with opened(Place(file, offset, size)) as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def origin(sha256: str, place: Place) -> str:
    """16 hex digits for a part, or for a file that is stored anew: they go into the name it is stored under.

    So the next time it is known from its bytes, without decoding it again.
    """
    return hashlib.sha256(f"{sha256}|{place.window}".encode()).hexdigest()[:16]


def can_be_heard(place: Place) -> bool:
    try:
        _header(place)
    except (OSError, UserError, ValueError):
        return False
    return True


def examine(place: Place, max_duration_s: float) -> Examined:
    """Decode and measure; whatever is wrong with it is told in `error`."""
    try:
        header = _header(place)
        samples, rate = _samples(place, header, max_duration_s)
        if not place.window and (broken := damage(_bytes(place))):
            raise UserError(f"{broken}; fetch or convert it again")
        convert = header.convert or bool(place.window)
        sha256 = hashlib.sha256(_flac(samples, rate)).hexdigest() if convert else digest(place)
    except (UserError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Examined(error=" ".join(str(reason).split()))
    return Examined("", sha256, rate, asdict(measure(samples, rate)), tuple(_notes(place, header)), convert)


def stored(place: Place, convert: bool) -> bytes:
    """The bytes for the corpus: those given, or the sound as FLAC. Raises OSError, UserError."""
    if not convert:
        return _bytes(place)
    return _flac(*_samples(place, _header(place), float("inf")))


def _bytes(place: Place) -> bytes:
    with opened(place) as file:
        return file.read()


def unmeasured() -> dict[str, float]:
    return dict.fromkeys(Measures.__dataclass_fields__, float("nan"))


def _flac(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _notes(place: Place, header: Header) -> list[str]:
    notes = []
    if header.channels > 1 and place.channel is None:
        notes.append(f"{header.channels} channels: averaged to one, or the loudest where they cancel out")
    if header.sample_rate != RATE_HZ:
        notes.append(f"{header.sample_rate} Hz: resampled to {RATE_HZ} Hz when it is prepared")
    if header.format and PurePosixPath(place.name).suffix.lower() in MISNOMERS - SUFFIXES[header.format]:
        notes.append(f"is {header.format}, whatever its name says")
    if not place.window and (more := streams(_bytes(place))) > 1:
        notes.append(f"only the first of {more} streams in the file is read")
    if place.window:
        notes.append("cut out of a longer recording, stored as 16-bit FLAC")
    elif header.convert:
        notes.append("stored as 16-bit FLAC of its sound: libsndfile does not read it, or it holds a picture")
    return notes


def _header(place: Place) -> Header:
    """What the file says of itself. Raises OSError, and UserError where it is no audio."""
    with opened(place) as file:
        head = file.read(HEAD)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not size:
            raise UserError("the file is empty; expected a recording")
        name = place.name.lower()
        if name.endswith(".gsm") or (name.endswith(".au") and not head.startswith(b".snd")):
            per_s = 1650 if name.endswith(".gsm") else TELEPHONE_HZ
            return Header(size / per_s, TELEPHONE_HZ, 1, convert=False)
        try:
            with soundfile.SoundFile(file) as sound:
                known = 0 < sound.frames < UNKNOWN_FRAMES
                seconds = sound.frames / sound.samplerate if known else 0.0
                kind = sound.format if sound.format in SUFFIXES else ""
                return Header(seconds, sound.samplerate, sound.channels, b"\x80theora" in head, kind)
        except soundfile.LibsndfileError:
            file.seek(0)
            return _av_header(file)


def _av_header(file: IO[bytes]) -> Header:
    import av

    try:
        with av.open(file, "r", options=AV_OPTIONS) as container:
            sound = _sound_track(container)
            duration_s = (
                float((sound.duration or 0) * (sound.time_base or 0)) or (container.duration or 0) / 1e6
            )
            return Header(
                duration_s, sound.codec_context.sample_rate, sound.codec_context.channels, convert=True
            )
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        raise UserError(f"not audio that can be decoded ({reason})") from error


def _sound_track(container: Any) -> Any:
    sounds = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not sounds:
        raise UserError("no sound track in it; expected a recording")
    return sounds[0]


def _samples(place: Place, header: Header, max_duration_s: float) -> tuple[np.ndarray, int]:
    """(samples (time,) float32 mono, rate). Raises UserError above the limit, before decoding where it can."""
    if not RATES_HZ[0] <= header.sample_rate <= RATES_HZ[1]:
        raise UserError(f"sample rate {header.sample_rate} Hz, expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz")
    start, end = place.start_s or 0.0, place.end_s
    wanted = (header.duration_s if end is None else end) - start
    if wanted > max_duration_s:
        raise UserError(f"lasts {wanted:.1f} s, expected at most {max_duration_s:g} s; {WHAT_TO_DO}")
    if not place.window and header.duration_s > 0:
        with opened(place) as file:
            return _decoded(file.read(), Path(place.name).suffix)
    last = end if end is not None else start + min(max_duration_s, 4 * 3600) + 1
    samples, rate = _window(place, start, last)
    if not samples.size:
        raise UserError(f"no sound from {start:g} s on; expected a recording")
    if len(samples) > max_duration_s * rate and end is None:
        raise UserError(f"lasts more than {max_duration_s:g} s; {WHAT_TO_DO}")
    if place.channel is not None and place.channel >= samples.shape[1]:
        raise UserError(f"has no channel {place.channel}, only {samples.shape[1]}")
    mono = samples.mean(axis=1) if place.channel is None else samples[:, place.channel]
    if not np.isfinite(mono).all():
        raise UserError("samples that are not numbers; record or convert it again")
    return mono.astype(np.float32), rate


def _decoded(data: bytes, suffix: str) -> tuple[np.ndarray, int]:
    name = f"recording{suffix}"
    try:
        return decode(data, name)
    except UserError as error:
        raise UserError(str(error).removeprefix(f"{name}: ")) from error


def _window(place: Place, start_s: float, end_s: float) -> tuple[np.ndarray, int]:
    """(samples (time, channel), rate) between two times, as many as there are."""
    with opened(place) as file:
        try:
            with soundfile.SoundFile(file) as sound:
                first = round(start_s * sound.samplerate)
                if first >= sound.frames:
                    return np.zeros((0, sound.channels), np.float32), sound.samplerate
                sound.seek(first)
                length = round(end_s * sound.samplerate) - first
                return sound.read(length, dtype="float32", always_2d=True), sound.samplerate
        except soundfile.LibsndfileError:
            file.seek(0)
            return _av_window(file, start_s, end_s)


def _av_window(file: IO[bytes], start_s: float, end_s: float) -> tuple[np.ndarray, int]:
    import av

    parts: list[np.ndarray] = []
    try:
        with av.open(file, "r", options=AV_OPTIONS) as container:
            sound = _sound_track(container)
            rate, channels = sound.codec_context.sample_rate, sound.codec_context.channels
            resampler = av.AudioResampler(format="flt", rate=rate)
            first, last, done = round(start_s * rate), round(end_s * rate), 0
            for frame in chain(container.decode(sound), [None]):
                for out in resampler.resample(frame):
                    block = out.to_ndarray().reshape(-1, out.layout.nb_channels)
                    parts.append(block[max(0, first - done) : max(0, last - done)])
                    done += len(block)
                if done >= last:
                    break
    except (av.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        raise UserError(f"not audio that can be decoded ({reason})") from error
    return np.concatenate(parts) if parts else np.zeros((0, channels), np.float32), rate


def examiner(max_duration_s: float) -> Callable[[Place], Examined]:
    """One argument, for a pool to map."""
    return partial(examine, max_duration_s=max_duration_s)
