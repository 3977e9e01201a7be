"""Channels of what is sent, and long recordings that do not say how long they are."""

import io

import av
import httpx
import numpy as np
import pytest
import soundfile

RATE = 16000
TRANSCRIBE = "/v1/audio/transcriptions"


def call() -> bytes:
    """Two speakers who take turns, one a channel."""
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * RATE, 2))
    noise[: 2 * RATE, 0] = noise[2 * RATE :, 1] = 0
    file = io.BytesIO()
    soundfile.write(file, noise, RATE, format="WAV")
    return file.getvalue()


def live_film(seconds: int) -> bytes:
    """WebM that was written while it was recorded, so that its header says nothing about its length."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm", options={"live": "1"}) as output:
        sound = output.add_stream("libopus", rate=8000, layout="mono")
        sound.bit_rate = 6000
        for second in range(seconds):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, second * 8000
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return file.getvalue()


def test_verbose_json_warns_of_two_speakers_until_a_channel_is_chosen(web: httpx.Client) -> None:
    def sent(**fields: str) -> httpx.Response:
        return web.post(TRANSCRIBE, files={"file": ("call.wav", call())}, data=fields)

    (warning,) = sent(response_format="verbose_json").json()["warnings"]
    assert warning.startswith("its two channels differ (correlation ")
    assert "channel=left or channel=right" in warning
    for channel in ("left", "2"):
        assert "warnings" not in sent(response_format="verbose_json", channel=channel).json()
    assert set(sent().json()) == {"text"}


@pytest.mark.parametrize(
    ("channel", "told"), [("middle", "expected mix, left, right"), ("3", "it has 2 channels")]
)
def test_a_channel_that_cannot_be_taken_is_refused(web: httpx.Client, channel: str, told: str) -> None:
    answer = web.post(TRANSCRIBE, files={"file": ("call.wav", call())}, data={"channel": channel})
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


def test_a_long_recording_that_does_not_say_so_is_too_long(web: httpx.Client) -> None:
    answer = web.post(TRANSCRIBE, files={"file": ("live.webm", live_film(601))})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "audio_too_long"
    assert answer.json()["error"]["message"] == "live.webm: over the 600 s allowed; split it"
