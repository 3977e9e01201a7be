"""Reading: real encoded files of all formats are decoded, and anything else is a one-line error."""

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from metavox.audio.bytestream import ByteStream
from metavox.audio.mono import Request, to_mono
from metavox.audio.read import _decode_av, decode, read_audio, read_bytes
from metavox.errors import UserError

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(
    container: str, subtype: str | None = None, samples: np.ndarray | None = None, rate: int = RATE
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone() if samples is None else samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def encoded_av(container: str, codec: str, rate: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        samples = np.int16(tone(1.0, rate) * 32767)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        stream.codec_context.layout = "mono"
        for part in [*resampler.resample(frame), None]:
            output.mux(stream.encode(part))
    return file.getvalue()


def loudest_hz(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


@pytest.mark.parametrize(
    ("name", "data", "rate"),
    [
        ("a.wav", encoded("WAV", "PCM_16"), RATE),
        ("a.wav", encoded("WAV", "FLOAT"), RATE),
        ("a.flac", encoded("FLAC"), RATE),
        ("a.mp3", encoded("MP3"), RATE),
        ("a.ogg", encoded("OGG", "VORBIS"), RATE),
        ("a.opus", encoded("OGG", "OPUS", tone(1.0, 48000), 48000), 48000),
        ("a.m4a", encoded_av("ipod", "aac", RATE), RATE),
        ("a.webm", encoded_av("webm", "libopus", 48000), 48000),
        ("a.mkv", encoded_av("matroska", "flac", RATE), RATE),
        ("a.gsm", encoded("RAW", "GSM610", tone(1.0, 8000), 8000), 8000),
        ("a.au", encoded("AU"), RATE),
        ("a.au", encoded("RAW", "ULAW", tone(1.0, 8000), 8000), 8000),
        ("A.GSM", encoded("RAW", "GSM610", tone(1.0, 8000), 8000), 8000),
        ("a.wav", encoded("WAV", None, tone(1.0, 192000), 192000), 192000),
        ("a", encoded("WAV"), RATE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_format_is_decoded(name: str, data: bytes, rate: int) -> None:
    samples, found_rate = decode(data, name)
    assert (found_rate, samples.dtype, samples.ndim) == (rate, np.float32, 1)
    assert len(samples) == pytest.approx(rate, abs=rate * 0.02)
    assert loudest_hz(samples, rate) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


def test_aac_padding_is_removed() -> None:
    assert len(decode(encoded_av("ipod", "aac", RATE), "a.m4a")[0]) == RATE


def decoded_by_pyav(data: bytes) -> np.ndarray:
    return _decode_av(ByteStream(io.BytesIO(data)), Request("a.wav"), to_mono).samples


EIGHT_CHANNELS = np.stack([tone() if n < 4 else 0 * tone() for n in range(8)], axis=1)


def test_eight_channels_are_averaged() -> None:
    samples, _ = decode(encoded("WAV", "FLOAT", EIGHT_CHANNELS), "a.wav")
    np.testing.assert_allclose(samples, tone() / 2, atol=1e-6)


def test_pyav_averages_eight_channels() -> None:
    """PyAV crashes on planar audio with eight channels, so its samples are read packed."""
    samples = decoded_by_pyav(encoded("WAV", "FLOAT", EIGHT_CHANNELS))
    np.testing.assert_allclose(samples, tone() / 2, atol=1e-6)


def antiphase() -> np.ndarray:
    """Two channels (time, 2), one of them inverted and a little quieter."""
    return np.stack([tone(), -0.9 * tone()], axis=1)


@pytest.mark.parametrize(
    "decoder", [lambda data: decode(data, "a.wav")[0], decoded_by_pyav], ids=["soundfile", "PyAV"]
)
def test_antiphase_channels_do_not_become_silence(decoder: Callable[[bytes], np.ndarray]) -> None:
    mono = decoder(encoded("WAV", "PCM_16", antiphase()))
    np.testing.assert_allclose(mono, tone(), atol=1e-4)


def with_timestamps(parts: list[tuple[float, np.ndarray]], with_picture: bool = True) -> bytes:
    """A Matroska file whose picture starts at 0 s and whose audio consists of parts (start in seconds, samples)."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        track = output.add_stream("pcm_s16le", rate=RATE)
        track.codec_context.layout = "mono"
        if with_picture:
            picture = output.add_stream("mjpeg", rate=1)
            picture.width = picture.height = 16
            picture.pix_fmt = "yuvj420p"
            frame = av.VideoFrame(16, 16, "yuvj420p")
            frame.pts = 0
            output.mux(picture.encode(frame))
            output.mux(picture.encode(None))
        for start_s, samples in parts:
            for first in range(0, len(samples), 1600):
                part = np.int16(samples[first : first + 1600] * 32767)[None]
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.sample_rate, frame.pts = RATE, round(start_s * RATE) + first
                output.mux(track.encode(frame))
        output.mux(track.encode(None))
    return file.getvalue()


def test_a_late_sound_track_starts_with_silence() -> None:
    mono, rate = decode(with_timestamps([(7.0, tone())]), "a.mkv")
    assert rate == RATE
    assert len(mono) == pytest.approx(8 * RATE, abs=RATE / 100)
    assert np.flatnonzero(mono)[0] == pytest.approx(7 * RATE, abs=RATE / 100)
    np.testing.assert_allclose(mono[-RATE:], tone(), atol=1e-3)


def test_gaps_become_silence_and_rounding_does_not() -> None:
    mono, _ = decode(
        with_timestamps([(0.0, tone()), (3.0, tone()), (4.02, tone())], with_picture=False), "a.mkv"
    )
    assert len(mono) == pytest.approx(5 * RATE, abs=RATE / 20)
    assert not mono[RATE + 100 : 3 * RATE - 100].any()
    np.testing.assert_allclose(mono[-2 * RATE :], np.tile(tone(), 2), atol=1e-3)


def test_timestamps_that_jump_by_days_are_rejected() -> None:
    with pytest.raises(UserError, match="over 1 min long"):
        decode(with_timestamps([(0.0, tone()), (1e6, tone())]), "a.mkv", 60.0)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_without_a_length_is_read_to_its_end(size: int) -> None:
    data = bytearray(encoded("WAV", "PCM_16"))
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    data[4:8] = size.to_bytes(4, "little")
    mono, _ = decode(bytes(data), "pipe.wav")
    np.testing.assert_allclose(mono, tone(), atol=1e-4)


@pytest.mark.parametrize("name", ["a.gsm", "a.au"])
@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG"])
def test_the_content_overrides_the_extension(name: str, container: str) -> None:
    mono, rate = decode(encoded(container), name)
    assert (len(mono), rate) == (RATE, RATE)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3", "OGG", "AIFF"])
def test_soundfile_decodes_the_formats_it_supports(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metavox.audio.read._decode_av", None)
    assert len(decode(encoded(container), "a")[0]) == RATE


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "prompts-000.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in (("en/a.wav", encoded("WAV")), ("en/b.flac", encoded("FLAC", None, tone(0.5)))):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_a_tar_member_reads_like_a_file(shard: Path) -> None:
    assert read_bytes(shard / "en" / "a.wav") == encoded("WAV")
    assert len(read_audio(shard / "en" / "b.flac", 8000)) == 4000


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_audio_is_resampled_to_the_requested_rate(tmp_path: Path, rate: int) -> None:
    (tmp_path / "a.wav").write_bytes(encoded("WAV"))
    samples = read_audio(tmp_path / "a.wav", rate)
    assert (len(samples), samples.dtype) == (rate, np.float32)
    assert loudest_hz(samples, rate) == pytest.approx(440, abs=2)


def wav_with_nan() -> bytes:
    samples = tone()
    samples[100] = np.nan
    return encoded("WAV", "FLOAT", samples)


def film_without_sound() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for packet in [*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode()]:
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"this is text, not a recording\n" * 40, "not audio"),
        (np.random.default_rng(1).bytes(5000), "not audio"),
        (encoded("WAV")[:20], "not audio"),
        (encoded("WAV", None, np.zeros(0, np.float32)), "no sample"),
        (wav_with_nan(), "not numbers"),
        (film_without_sound(), "no sound track"),
    ],
    ids=["zero bytes", "text", "random", "header cut", "no sample", "NaN", "film without sound"],
)
def test_invalid_files_are_a_one_line_error(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        decode(data, "here/bad.wav")
    assert str(raised.value).startswith("here/bad.wav: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.ogg"])
def test_a_truncated_file_gives_its_remaining_samples(name: str) -> None:
    hiss = np.random.default_rng(2).standard_normal(4 * RATE).astype(np.float32) * 0.1
    whole = encoded(name.split(".")[1].upper(), None, tone(4.0) + hiss)
    samples, _ = decode(whole[: len(whole) // 2], name)
    assert 0.5 * RATE < len(samples) <= 4.0 * RATE
    assert loudest_hz(samples[: RATE // 2], RATE) == pytest.approx(440, abs=3)


def test_a_truncated_flac_is_rejected() -> None:
    whole = encoded("FLAC", None, tone(4.0))
    with pytest.raises(UserError, match="not audio that can be decoded"):
        decode(whole[: len(whole) // 2], "a.flac")


def test_a_truncated_header_is_rejected_without_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python prints an error inside a callback of libsndfile instead of raising it."""
    printed: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    whole = encoded("AIFF")
    for length in range(1, 50):
        with pytest.raises(UserError):
            decode(whole[:length], "a.aiff")
    assert printed == []


def test_corrupt_headers_only_raise_user_errors() -> None:
    random = np.random.default_rng(0)
    for name, whole in (("a.wav", encoded("WAV")), ("a.flac", encoded("FLAC")), ("a.mp3", encoded("MP3"))):
        for _ in range(150):
            data = bytearray(whole)
            for position in random.integers(0, 120, 4):
                data[position] = random.integers(256)
            try:
                samples, rate = decode(bytes(data), name)
            except UserError:
                continue
            assert np.isfinite(samples).all()
            assert rate > 0


def test_a_header_that_claims_hours_does_not_allocate_them() -> None:
    data = bytearray(encoded("AU", None, tone(0.1)))
    data[8:12] = (2**32 - 2).to_bytes(4, "big")  # the data size
    try:
        samples, _ = decode(bytes(data), "a.au")
    except UserError:
        return
    assert len(samples) <= RATE


def test_a_recording_over_the_limit_is_rejected() -> None:
    with pytest.raises(UserError, match=r"over 0\.9 s long; cut it"):
        decode(encoded("WAV"), "long.wav", 0.9)
    decode(encoded("WAV"), "long.wav", 1.1)


def test_missing_files_and_members_are_named(shard: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"en/c.wav: prompts-000.tar holds no en/c.wav"):
        read_bytes(shard / "en" / "c.wav")
    with pytest.raises(UserError, match="no such recording"):
        read_bytes(tmp_path / "missing.wav")
    (tmp_path / "broken.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match=r"broken.tar: not a tar"):
        read_bytes(tmp_path / "broken.tar" / "a.wav")


@pytest.mark.parametrize("value", [1e7, 1e30])
def test_samples_far_beyond_full_scale_are_rejected(value: float) -> None:
    samples = tone(0.1)
    samples[50] = value
    with pytest.raises(UserError, match=r"a.wav: samples up to 1e\+\d\d; expected about full scale 1"):
        decode(encoded("WAV", "FLOAT", samples), "a.wav")
