"""Recordings read block by block: the same samples as of the whole, also of broken files and channels that cancel out."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from metavox.audio.read import count_channels, read_recording, stream_recording
from metavox.errors import UserError

RATE = 16000


def sound(seconds: float, channels: int = 1) -> np.ndarray:
    random = np.random.default_rng(0)
    return (0.1 * random.standard_normal((round(seconds * RATE), channels))).astype(np.float32)


def streamed(path: Path, **options: int) -> np.ndarray:
    blocks: list[np.ndarray] = []
    stream_recording(path, lambda block: blocks.append(block.copy()), **options)  # type: ignore[arg-type]
    return np.concatenate(blocks)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_blocks_are_those_of_the_whole(tmp_path: Path, kind: str, channels: int, rate: int) -> None:
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, sound(9.0, channels), RATE)
    assert count_channels(path) == channels
    np.testing.assert_array_equal(streamed(path, sample_rate_hz=rate), read_recording(path, rate).samples)
    last = streamed(path, sample_rate_hz=rate, channel=channels)
    np.testing.assert_array_equal(last, read_recording(path, rate, channels).samples)


def test_antiphase_channels_are_not_silenced(tmp_path: Path) -> None:
    one = sound(3.0)
    soundfile.write(tmp_path / "a.wav", np.concatenate([one, -0.9 * one], axis=1), RATE)
    assert np.abs(streamed(tmp_path / "a.wav")).max() > 0.1


def test_a_broken_file_is_not_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, sound(60.0), RATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(bytes(data))
    assert len(streamed(path)) <= 60 * RATE
    assert len(streamed(path)) == pytest.approx(len(read_recording(path).samples), abs=RATE)


def test_a_stream_has_a_limit_too(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(3.0), RATE)
    with pytest.raises(UserError, match="over 2 s long"):
        stream_recording(tmp_path / "a.wav", lambda block: None, longest_s=2.0)
    with pytest.raises(UserError, match="no channel 2"):
        stream_recording(tmp_path / "a.wav", lambda block: None, channel=2)
