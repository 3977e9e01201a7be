"""Damaged files are detected, and intact files pass."""

import io

import numpy as np
import pytest
import soundfile

from metavox.audio.intact import damage, streams


def encoded(kind: str, subtype: str, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    random = np.random.default_rng(0)
    soundfile.write(buffer, random.uniform(-0.5, 0.5, (8000, channels)), 16000, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_the_md5_of_a_flac_is_checked(bits: int, channels: int) -> None:
    data = encoded("FLAC", "PCM_S8" if bits == 8 else f"PCM_{bits}", channels)
    assert damage(data) == ""
    without_md5 = data[:26] + bytes(16) + data[42:]
    assert damage(without_md5) == ""  # an encoder may omit it
    assert "another MD5" in damage(data[:26] + bytes(range(16)) + data[42:])


def test_a_corrupt_or_truncated_flac_is_detected() -> None:
    data = bytearray(encoded("FLAC", "PCM_16"))
    data[len(data) // 2] ^= 0x55
    assert damage(bytes(data))
    assert damage(encoded("FLAC", "PCM_16")[:4000])


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "MP3", "OGG", "AIFF", "AU", "CAF"])
def test_intact_files_pass(kind: str) -> None:
    assert damage(encoded(kind, soundfile.default_subtype(kind))) == ""


def test_a_truncated_wav_is_detected_and_a_streamed_one_passes() -> None:
    data = encoded("WAV", "PCM_16")
    at = data.index(b"data")
    assert damage(data[: len(data) // 2]).startswith("cut short: ")
    for size in (0xFFFFFFFF, 0x7FFFFFFF):
        streamed = data[: at + 4] + np.uint32(size).tobytes() + data[at + 8 :]
        assert damage(streamed) == ""
    assert damage(data + b"junk") == ""


def test_chained_ogg_streams_are_counted() -> None:
    data = encoded("OGG", "VORBIS")
    assert streams(data) == 1
    assert streams(data * 3) == 3
    assert streams(data[: len(data) // 2]) == 1
    assert streams(encoded("WAV", "PCM_16")) == 1
    assert damage(data + data) == ""  # chained streams are not damage
