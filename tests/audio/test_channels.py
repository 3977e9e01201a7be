"""Calls with one speaker per channel are distinguished from ordinary stereo, and channels are selected by name."""

import io

import numpy as np
import pytest
import soundfile

from metavox.audio.channels import channel_named
from metavox.audio.read import decode_recording
from metavox.errors import UserError

RATE = 16000
SECONDS = 20


def speech(seed: int, first_s: float = 0.0, last_s: float = SECONDS) -> np.ndarray:
    """Bursts of noise and pauses, like a speaker who talks from `first_s` to `last_s`."""
    random = np.random.default_rng(seed)
    samples = np.zeros(SECONDS * RATE)
    start = round(first_s * RATE)
    while start < last_s * RATE:
        length = round(random.uniform(0.2, 0.6) * RATE)
        burst = random.normal(0, 0.1, length) * np.hanning(length)
        samples[start : start + length] += burst[: max(0, len(samples) - start)]
        start += length + round(random.uniform(0.05, 0.3) * RATE)
    return samples


def hiss(seed: int, level_db: float) -> np.ndarray:
    return np.random.default_rng(100 + seed).normal(0, 10 ** (level_db / 20), SECONDS * RATE)


def delayed(samples: np.ndarray, delay_s: float) -> np.ndarray:
    return np.roll(samples, round(delay_s * RATE))


def room(samples: np.ndarray, seed: int) -> np.ndarray:
    """The signal at one of two microphones: delayed, with its own reverberation."""
    random = np.random.default_rng(seed)
    tail = random.normal(size=RATE // 2) * np.exp(-np.arange(RATE // 2) / (0.06 * RATE))
    response = np.concatenate([np.zeros(random.integers(20, 120)), [1.0], 0.08 * tail])
    return np.convolve(samples, response)[: len(samples)]


FIRST, SECOND = speech(1, 0, 9), speech(2, 10, SECONDS)
CLICKS = np.zeros(SECONDS * RATE)
for click in range(0, len(CLICKS), RATE):
    CLICKS[click : click + 400] = np.random.default_rng(click).normal(0, 0.3, 400)

CALLS = {
    "turns": (FIRST, SECOND),
    "turns on noisy lines": (FIRST + hiss(1, -55), SECOND + hiss(2, -50)),
    "second speaker 20 dB quieter": (FIRST, 0.1 * SECOND + hiss(2, -75)),
    "with crosstalk": (FIRST + 0.03 * SECOND, SECOND + 0.03 * FIRST),
    "simultaneous, as with an interpreter": (speech(1), speech(2)),
    "short answers": (speech(1, 0, 16), speech(2, 17, 17.8)),
}
STEREO = {
    "identical": (speech(1), speech(1)),
    "two speakers, identical": (FIRST + SECOND, FIRST + SECOND),
    "antiphase": (speech(1), -speech(1)),
    "delayed on one side": (speech(1), delayed(speech(1), 0.004)),
    "panned": (0.7 * FIRST + 0.3 * SECOND, 0.3 * FIRST + 0.7 * SECOND),
    "two speakers in a room": (room(FIRST, 1) + room(SECOND, 2), room(FIRST, 3) + room(SECOND, 4)),
    "only one speaks": (speech(1), hiss(1, -50)),
    "one is silent": (speech(1), 0 * speech(1)),
    "one clicks": (speech(1) + hiss(1, -60), CLICKS + hiss(2, -60)),
    "wide, like music": (speech(1) + 0.5 * hiss(1, -30), speech(1) + 0.5 * hiss(2, -30)),
    "two noises": (hiss(1, -30), hiss(2, -30)),
}


def wav(channels: tuple[np.ndarray, ...], rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.stack(channels, axis=1), rate, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("kind", CALLS)
def test_two_speakers_on_two_channels_are_detected(kind: str) -> None:
    warning = decode_recording(wav(CALLS[kind]), "call.wav").warning
    assert warning.startswith("its two channels differ (correlation ")
    assert warning.endswith("; they were mixed")


@pytest.mark.parametrize("kind", STEREO)
def test_ordinary_stereo_is_not_mistaken_for_a_call(kind: str) -> None:
    assert decode_recording(wav(STEREO[kind]), "a.wav").warning == ""


@pytest.mark.parametrize("block", [1000, 1 << 20])
def test_detection_does_not_depend_on_the_block_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metavox.audio.read.BLOCK", block)
    correlation = decode_recording(wav(CALLS["turns on noisy lines"]), "a.wav").speakers_correlation
    assert correlation == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(("channel", "expected"), [(1, FIRST), (2, SECOND)])
def test_a_selected_channel_gives_no_warning(channel: int, expected: np.ndarray) -> None:
    recording = decode_recording(wav((FIRST, SECOND)), "a.wav", channel=channel)
    np.testing.assert_allclose(recording.samples, expected, atol=1e-3)
    assert recording.warning == ""


@pytest.mark.parametrize(("channels", "available"), [(1, "it has 1 channel"), (2, "it has 2 channels")])
def test_a_missing_channel_is_a_one_line_error(channels: int, available: str) -> None:
    with pytest.raises(UserError, match=f"a.wav: no channel 3: {available};"):
        decode_recording(wav((FIRST, SECOND)[:channels]), "a.wav", channel=3)


def test_channel_names() -> None:
    assert [channel_named(name) for name in ("mix", "left", "Right", "1", "12")] == [None, 1, 2, 1, 12]
    for invalid in ("", "0", "-1", "middle", "²", "1.5"):
        with pytest.raises(UserError, match="expected mix, left, right, or the number"):
            channel_named(invalid)
