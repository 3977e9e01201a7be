"""Block-wise reading gives the same result as reading at once, needs little extra memory, and stops at the limit."""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from metavox.audio import read
from metavox.audio.mono import TooLong
from metavox.audio.read import decode, decode_recording, read_recording, resample
from metavox.errors import UserError

SECONDS = 3.3


def noise(channels: int, rate: int) -> np.ndarray:
    """Noise (time, channel), of a length that is no multiple of a block size."""
    return np.random.default_rng(channels).uniform(-0.4, 0.4, (round(SECONDS * rate) + 7, channels))


def encoded(container: str, samples: np.ndarray, rate: int, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def encoded_by_pyav(codec: str, container: str, samples: np.ndarray, rate: int, **options: str) -> bytes:
    """Stereo samples (time, 2), encoded by PyAV."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        track = output.add_stream(codec, rate=rate)
        track.codec_context.layout = "stereo"
        resampler = av.AudioResampler(format=track.codec_context.format, layout="stereo", rate=rate)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.int16(samples * 32767).reshape(1, -1)), format="s16", layout="stereo"
        )
        frame.sample_rate, frame.pts = rate, 0
        for part in [*resampler.resample(frame), None]:
            output.mux(track.encode(part))
    return file.getvalue()


RECORDINGS = {
    "mono wav, 16 kHz": encoded("WAV", noise(1, 16000), 16000),
    "stereo wav, 44.1 kHz": encoded("WAV", noise(2, 44100), 44100),
    "float wav, 8 channels, 48 kHz": encoded("WAV", noise(8, 48000), 48000, "FLOAT"),
    "stereo flac, 8 kHz": encoded("FLAC", noise(2, 8000), 8000),
    "stereo mp3, 22.05 kHz": encoded("MP3", noise(2, 22050), 22050),
    "stereo ogg, 48 kHz": encoded("OGG", noise(2, 48000), 48000),
    "antiphase wav, 44.1 kHz": encoded("WAV", noise(1, 44100) * [1.0, -0.9], 44100),
    "aac in m4a, 44.1 kHz": encoded_by_pyav("aac", "ipod", noise(2, 44100), 44100),
    "opus in webm, 48 kHz": encoded_by_pyav("libopus", "webm", noise(2, 48000), 48000),
}


@pytest.mark.parametrize("block", [333, 4096, 50_000])
@pytest.mark.parametrize("kind", RECORDINGS)
def test_the_block_size_does_not_change_the_samples(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "BLOCK", 1 << 30)
    at_once, rate = decode(RECORDINGS[kind], kind)
    expected = resample(at_once, rate, 16000)
    monkeypatch.setattr(read, "BLOCK", block)
    recording = decode_recording(RECORDINGS[kind], kind, 16000)
    assert len(recording.samples) == len(expected)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(recording.samples, expected, atol=1e-6)


@pytest.mark.parametrize("kind", RECORDINGS)
def test_a_file_and_its_bytes_give_the_same_samples(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(RECORDINGS[kind])
    samples = read_recording(tmp_path / "a.bin", 16000).samples
    np.testing.assert_array_equal(samples, decode_recording(RECORDINGS[kind], kind, 16000).samples)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_without_a_length_is_read_to_its_end(size: int, tmp_path: Path) -> None:
    complete = RECORDINGS["stereo wav, 44.1 kHz"]
    data = bytearray(complete)
    for position in (4, data.index(b"data") + 4):
        data[position : position + 4] = size.to_bytes(4, "little")
    (tmp_path / "pipe.wav").write_bytes(data)
    samples = read_recording(tmp_path / "pipe.wav", 16000).samples
    np.testing.assert_array_equal(samples, decode_recording(complete, "a.wav", 16000).samples)


def test_less_than_one_sample_at_the_target_rate_gives_no_sample() -> None:
    assert len(decode_recording(encoded("WAV", noise(1, 48000)[:1], 48000), "a.wav", 16000).samples) == 0


PEAK = r"""
import re, sys
from pathlib import Path
from metavox.audio.read import read_audio
def peak():  # ru_maxrss would start at the peak of the parent process
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
samples = read_audio(sys.argv[1], 16000)
print((peak() - before) * 1024 / samples.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (48000, 2)])
def test_reading_takes_little_more_memory_than_the_samples(rate: int, channels: int, tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate, channels) as file:
        for _ in range(6):
            file.write(np.full((60 * rate, channels), 0.1, np.float32))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "long.wav")]
    ratio = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0.9 < ratio < 2


def live_webm() -> bytes:
    """A live webm recording of 3.3 s, whose header lacks a duration."""
    data = encoded_by_pyav("libopus", "webm", noise(2, 48000), 48000, live="1")
    with av.open(io.BytesIO(data)) as container:
        assert container.duration is None
    return data


class CountingFile(io.BytesIO):
    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


@pytest.mark.parametrize("kind", ["webm", "wav"])
def test_decoding_stops_at_the_limit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "BLOCK", 4096)
    repeated = noise(2, 48000).repeat(10, axis=0)
    data = (
        encoded_by_pyav("libopus", "webm", repeated, 48000, live="1")
        if kind == "webm"
        else encoded("WAV", repeated, 48000)
    )
    file = CountingFile(data)
    with pytest.raises(TooLong, match="a: over 1 s long; cut it"):
        decode_recording(file, "a", 16000, longest_s=1.0)
    assert file.bytes_read < len(data) / 2
    assert len(decode_recording(live_webm(), "a", 16000, longest_s=4.0).samples) > 3 * 16000


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that cannot be read")
def test_an_unreadable_file_is_a_one_line_error() -> None:
    with pytest.raises(UserError, match=r"^/proc/self/mem: cannot be read \("):
        read_recording("/proc/self/mem")
