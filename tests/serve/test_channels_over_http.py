"""The choice of a channel over HTTP, and long recordings whose header does not state their length."""

import io

import av
import httpx
import numpy as np
import pytest
import soundfile

RATE = 16000
TRANSCRIBE = "/v1/audio/transcriptions"


def call() -> bytes:
    """A call in which two speakers alternate, one per channel."""
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * RATE, 2))
    noise[: 2 * RATE, 0] = noise[2 * RATE :, 1] = 0
    file = io.BytesIO()
    soundfile.write(file, noise, RATE, format="WAV")
    return file.getvalue()


def live_film(seconds: int) -> bytes:
    """WebM written live, so that its header does not state its length."""
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
    def post(**fields: str) -> httpx.Response:
        return web.post(TRANSCRIBE, files={"file": ("call.wav", call())}, data=fields)

    (warning,) = post(response_format="verbose_json").json()["warnings"]
    assert warning.startswith("its two channels differ (correlation ")
    assert "channel=left or channel=right" in warning
    for channel in ("left", "2"):
        assert "warnings" not in post(response_format="verbose_json", channel=channel).json()
    assert set(post().json()) == {"text"}


@pytest.mark.parametrize(
    ("channel", "message"), [("middle", "expected mix, left, right"), ("3", "it has 2 channels")]
)
def test_an_invalid_channel_is_refused(web: httpx.Client, channel: str, message: str) -> None:
    answer = web.post(TRANSCRIBE, files={"file": ("call.wav", call())}, data={"channel": channel})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_a_long_recording_of_unstated_length_is_refused(web: httpx.Client) -> None:
    answer = web.post(TRANSCRIBE, files={"file": ("live.webm", live_film(601))})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "audio_too_long"
    assert answer.json()["error"]["message"] == "live.webm: over the 600 s allowed; split it"
