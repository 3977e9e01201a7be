"""Requests that the service refuses, with the right status and in the format that OpenAI's clients read."""

import io

import httpx
import numpy as np
import pytest
import soundfile
from clips_to_send import Clip

TRANSCRIBE = "/v1/audio/transcriptions"


def refused(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, str]:
    """Check the format of an error response, and return the error."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    if code:
        assert error["code"] == code
    return error


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"", "empty.wav"), (b"not audio at all", "notes.txt"), (b"RIFF\x00\x00\x00\x00WAVE", "cut.wav")],
)
def test_files_that_are_not_recordings(web: httpx.Client, content: bytes, name: str) -> None:
    error = refused(web.post(TRANSCRIBE, files={"file": (name, content)}), 400, "invalid_audio")
    assert error["param"] == "file"
    assert name in error["message"]


def test_a_recording_of_one_sample(web: httpx.Client) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(1), 16000, format="WAV")
    refused(web.post(TRANSCRIBE, files={"file": buffer.getvalue()}), 400, "audio_too_short")


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"response_format": "docx"}, 400, "response_format"),
        ({"model": "another"}, 404, "model"),
        ({"model": "metavox:nobody"}, 404, None),
        ({"deltas": "nobody"}, 404, None),
        ({"vocabulary": "nobody"}, 404, None),
        ({"vocabulary": "../../etc"}, 400, None),
    ],
)
def test_fields(
    web: httpx.Client, clip: Clip, fields: dict[str, str], status: int, param: str | None
) -> None:
    error = refused(web.post(TRANSCRIBE, files={"file": clip()}, data=fields), status)
    assert error["param"] == param


def test_no_file_and_no_form(web: httpx.Client) -> None:
    refused(web.post(TRANSCRIBE, files={"other": b"x"}), 400)
    refused(web.post(TRANSCRIBE, json={"file": "x"}), 415)


def test_no_such_route_and_method(web: httpx.Client) -> None:
    refused(web.get("/v1/nothing"), 404)
    answer = web.get(TRANSCRIBE)
    refused(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_a_large_request(web: httpx.Client) -> None:
    refused(web.post(TRANSCRIBE, files={"file": b"\0" * (26 << 20)}), 413, "request_too_large")


def test_a_large_request_of_unknown_length(web: httpx.Client) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    parts = (form if i == 0 else b"\0" * (1 << 20) for i in range(27))
    answer = web.post(TRANSCRIBE, content=parts, headers={"content-type": "multipart/form-data; boundary=x"})
    refused(answer, 413, "request_too_large")


def test_a_long_recording(web: httpx.Client) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(8000 * 601, np.int16), 8000, format="FLAC")
    error = refused(
        web.post(TRANSCRIBE, files={"file": ("long.flac", buffer.getvalue())}), 413, "audio_too_long"
    )
    assert "601 s" in error["message"]


@pytest.mark.parametrize(
    "name", ["%2e%2e", "%2e%2e%2fup", "UPPER", "-first", "a" * 65, "dot.dot", "sp%20ace", "%00", "né"]
)
@pytest.mark.parametrize("kind", ["vocabularies", "voices"])
def test_names(web: httpx.Client, clip: Clip, kind: str, name: str) -> None:
    fields = {"labels": ["a"], "texts": ["a"]}
    answer = web.post(f"/v1/{kind}/{name}", files=[("files", ("a.wav", clip()))], data=fields)
    assert answer.status_code in (400, 404, 405), answer.text
    assert "error" in answer.json()
    assert web.get(f"/v1/{kind}/{name}").status_code in (400, 404)


def test_a_name_cannot_be_both_a_vocabulary_and_a_voice(web: httpx.Client, clip: Clip) -> None:
    files = [("files", ("a.wav", clip()))]
    assert web.post("/v1/vocabularies/taken", files=files).status_code == 201
    refused(web.post("/v1/voices/taken", files=files, data={"texts": ["a"]}), 409, "name_taken")


def test_labels(web: httpx.Client, clip: Clip) -> None:
    files = [("files", ("a.wav", clip())), ("files", ("b.wav", clip()))]
    assert (
        refused(web.post("/v1/vocabularies/x", files=files, data={"labels": ["a"]}), 400)["param"] == "labels"
    )
    refused(web.post("/v1/vocabularies/x", files=files, data={"labels": ["a", " "]}), 400, "invalid_value")
    for kind, field in (("vocabularies", "labels"), ("voices", "texts")):
        data = {field: ["a", "b"], "language": "?"}
        assert refused(web.post(f"/v1/{kind}/x", files=files, data=data), 400)["param"] == "language"
    refused(web.post("/v1/voices/x", files=files), 400)
    refused(web.post("/v1/voices/x", files=files, data={"texts": ["…", "?!"]}), 400)
    refused(web.post("/v1/vocabularies/x", files=[("files", ("a.wav", b"no"))]), 400, "invalid_audio")
    refused(web.get("/v1/vocabularies/x"), 404, "not_found")


def test_two_vocabularies_at_once(web: httpx.Client, clip: Clip) -> None:
    for name in ("first", "second"):
        web.post(f"/v1/vocabularies/{name}", files=[("files", ("a.wav", clip()))])
    refused(web.post(TRANSCRIBE, files={"file": clip()}, data={"model": "metavox:first,second"}), 400)


def test_a_page_of_another_site(web: httpx.Client, address: str, clip: Clip) -> None:
    elsewhere = {"origin": "https://elsewhere.example"}
    refused(web.post(TRANSCRIBE, files={"file": clip()}, headers=elsewhere), 403)
    assert web.post(TRANSCRIBE, files={"file": clip()}, headers={"origin": address}).status_code == 200
