"""The service over HTTP: transcription, enrolment, voices."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import openai.types.audio
import pytest
from clips_to_send import RATE, Clip, encoded
from spoken import spoken

TONES = {"low": 200, "mid": 600, "high": 1500}


def transcribe(web: httpx.Client, recording: bytes, name: str = "clip.wav", **fields: str) -> httpx.Response:
    return web.post(
        "/v1/audio/transcriptions", files={"file": (name, recording)}, data={"model": "metavox", **fields}
    )


def enrol(web: httpx.Client, clip: Clip, name: str, tones: dict[str, int] = TONES) -> httpx.Response:
    chosen = [(word, hz, seed) for word, hz in tones.items() for seed in range(3)]
    files = [("files", (f"{i}.wav", clip(hz, seed=seed))) for i, (_, hz, seed) in enumerate(chosen)]
    return web.post(f"/v1/vocabularies/{name}", files=files, data={"labels": [word for word, _, _ in chosen]})


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac", "ogg", "m4a"])
def test_formats_of_recordings(web: httpx.Client, clip: Clip, kind: str) -> None:
    answer = transcribe(web, clip(seconds=1.0, kind=kind), f"clip.{kind}", response_format="verbose_json")
    assert answer.status_code == 200, answer.text
    assert answer.json()["duration"] == pytest.approx(1.0, abs=0.15)


def test_response_formats(web: httpx.Client, clip: Clip) -> None:
    recording = encoded(spoken("we wrote a few words"))
    plain = transcribe(web, recording).json()
    assert set(plain) == {"text"}
    text = transcribe(web, recording, response_format="text")
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == plain["text"] + "\n"
    verbose = transcribe(web, recording, response_format="verbose_json", language="tlh").json()
    assert verbose["task"] == "transcribe"
    assert verbose["language"] == "tlh"
    assert verbose["text"] == plain["text"]
    assert verbose["segments"][0]["end"] == pytest.approx(
        len(spoken("we wrote a few words")) / RATE, abs=0.05
    )
    vtt = transcribe(web, recording, response_format="vtt")
    assert vtt.headers["content-type"].startswith("text/vtt")
    assert vtt.text.startswith("WEBVTT\n")


def test_openais_own_client_reads_every_answer(web: httpx.Client, address: str, clip: Clip) -> None:
    client = openai.OpenAI(
        base_url=f"{address}/v1", api_key="any", max_retries=0, http_client=httpx.Client(trust_env=False)
    )
    recording = encoded(spoken("we wrote a few words"))
    file, plain = ("clip.wav", recording), transcribe(web, recording).json()["text"]
    assert client.audio.transcriptions.create(file=file, model="metavox").text == plain
    events = list(client.audio.transcriptions.create(file=file, model="metavox", stream=True))
    assert [event.type for event in events][-1:] == ["transcript.text.done"]
    assert events[-1].text == plain == "".join(event.delta for event in events[:-1])
    for granularities, has_words in ((["segment"], False), (["word"], True), (["word", "segment"], True)):
        verbose = client.audio.transcriptions.create(
            file=file,
            model="whisper-1",
            response_format="verbose_json",
            timestamp_granularities=granularities,
        )
        assert (verbose.words is not None) == has_words
        assert verbose.segments
        for segment in verbose.segments:
            openai.types.audio.TranscriptionSegment.model_validate(segment.to_dict(), strict=True)
    assert next(model.id for model in client.models.list()) == "metavox"


def test_subtitles_of_an_enrolled_word(web: httpx.Client, clip: Clip) -> None:
    assert enrol(web, clip, "cues").status_code == 201
    answer = transcribe(web, clip(1500, seed=9), response_format="srt", vocabulary="cues")
    number, times, text = answer.text.splitlines()[:3]
    assert (number, text) == ("1", "high")
    assert "00:00:00,000" < times[:12] < "00:00:00,200" < "00:00:00,400" < times[-12:] <= "00:00:00,600"


def test_an_enrolled_word_has_its_times_and_a_language_is_always_named(web: httpx.Client, clip: Clip) -> None:
    assert enrol(web, clip, "timed").status_code == 201
    options = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    found = transcribe(web, clip(1500, seed=9), vocabulary="timed", **options).json()
    (word,), (segment,) = found["words"], found["segments"]
    assert (word["word"], word["start"], word["end"]) == ("high", segment["start"], segment["end"])
    assert 0 <= word["start"] < 0.2 < 0.4 < word["end"] <= 0.6
    assert found["language"] == "unknown"
    assert transcribe(web, clip(1500), **options).json()["language"] == "unknown"
    assert (
        transcribe(web, clip(1500), vocabulary="timed", language="it", **options).json()["language"] == "it"
    )


@pytest.mark.parametrize("sound", [np.zeros(RATE), 0.05 * np.random.default_rng(0).normal(size=RATE)])
def test_a_clip_without_speech_is_not_enrolled(web: httpx.Client, clip: Clip, sound: np.ndarray) -> None:
    files = [("files", ("high.wav", clip(1500))), ("files", ("hush.wav", encoded(sound.astype(np.float32))))]
    answer = web.post("/v1/vocabularies/hush", files=files)
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400
    assert message.startswith("hush.wav: no speech found")
    assert "dB" in message
    assert web.get("/v1/vocabularies/hush").status_code == 404


def test_one_recording_is_not_enrolled_as_two_words(web: httpx.Client, clip: Clip) -> None:
    files = [("files", ("on.wav", clip(300))), ("files", ("off.wav", clip(300)))]
    answer = web.post("/v1/vocabularies/double", files=files)
    assert answer.status_code == 400
    assert "off.wav: the same recording as on.wav" in answer.json()["error"]["message"]
    assert enrol(web, clip, "double").status_code == 201


def test_spellings_of_one_label_are_one_word(web: httpx.Client, clip: Clip) -> None:
    spellings = [
        ("Café", 1500),
        ("cafe\u0301", 1500),
        ("CAFÉ.", 1500),
        ("low", 200),
        ("Low", 200),
        ("low!", 200),
    ]
    files = [("files", (f"{i}.wav", clip(hz, seed=i))) for i, (_, hz) in enumerate(spellings)]
    created = web.post(
        "/v1/vocabularies/spelled", files=files, data={"labels": [word for word, _ in spellings]}
    )
    assert created.status_code == 201, created.text
    assert set(created.json()["words"]) == {"Café", "low"}
    answer = web.post(
        "/v1/vocabularies/spelled/recognitions", files={"file": ("clip.wav", clip(1500, seed=9))}
    )
    assert answer.json()["word"] == "Café"


def test_the_language_decides_what_one_spelling_is(web: httpx.Client, clip: Clip) -> None:
    files = [("files", (f"{i}.wav", clip(hz, seed=i))) for i, hz in enumerate([1500, 1500, 200])]
    data: dict[str, list[str] | str] = {"labels": ["ısı", "ISI", "ok"]}
    assert set(web.post("/v1/vocabularies/any", files=files, data=data).json()["words"]) == {
        "ısı",
        "ISI",
        "ok",
    }
    made = web.post("/v1/vocabularies/turkish", files=files, data=data | {"language": "tr"})
    assert set(made.json()["words"]) == {"ısı", "ok"}
    answer = transcribe(web, clip(1500, seed=9), vocabulary="turkish", response_format="verbose_json").json()
    assert (answer["text"], answer["language"]) == ("ısı", "tr")


def test_concurrent_enrolment_and_deletion_of_one_name_fail_no_enrolment(
    web: httpx.Client, clip: Clip
) -> None:
    def change(i: int) -> int:
        return (enrol(web, clip, "fought") if i % 2 else web.delete("/v1/vocabularies/fought")).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(change, range(40)))
    assert set(answers[1::2]) <= {200, 201}
    assert set(answers[::2]) <= {200, 404}


@pytest.mark.parametrize("label", ["👩‍👩‍👧", "🇮🇹", "می‌خواهم", "R&B <loud>"])
def test_a_label_may_be_any_printable_text(web: httpx.Client, clip: Clip, label: str) -> None:
    assert enrol(web, clip, "any", {label: 200, "other": 1500}).json()["words"] == sorted([label, "other"])
    assert transcribe(web, clip(200, seed=9), vocabulary="any").json()["text"] == label


@pytest.mark.parametrize("label", ["a\0b", "bell\a"])
def test_a_label_with_a_control_character_is_refused(web: httpx.Client, clip: Clip, label: str) -> None:
    answer = enrol(web, clip, "controls", {label: 200})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


def test_a_name_in_use_is_refused_before_anything_is_learned(web: httpx.Client, clip: Clip) -> None:
    enrol(web, clip, "taken")
    # Nothing can be learned from this text: if the name were checked later, the text would be refused instead.
    files, texts = [("files", ("0.wav", clip(300)))], {"texts": ["?!"]}
    free = web.post("/v1/voices/free", files=files, data=texts)
    assert (free.status_code, "can be written by" in free.json()["error"]["message"]) == (400, True)
    answer = web.post("/v1/voices/taken", files=files, data=texts)
    assert answer.status_code == 409
    assert "taken is already one of the vocabularies" in answer.json()["error"]["message"]


def test_models_are_listed_with_their_deltas(web: httpx.Client, clip: Clip) -> None:
    enrol(web, clip, "listed")
    listed = web.get("/v1/models").json()
    assert listed["object"] == "list"
    names = [model["id"] for model in listed["data"]]
    assert names[0] == "metavox"
    assert "metavox:listed" in names
    assert web.get("/v1/models/metavox:listed").json()["object"] == "model"
    assert transcribe(web, clip(600, seed=9), model="metavox:listed").json() == {"text": "mid"}
    assert transcribe(web, clip(600, seed=9), model="whisper-1").status_code == 200


def test_words_are_enrolled_and_recognised(web: httpx.Client, clip: Clip) -> None:
    created = enrol(web, clip, "tones")
    assert created.status_code == 201, created.text
    assert created.json()["words"] == sorted(TONES)
    expected = created.json()["expected"]
    assert (expected["clips"], expected["folds"]) == (9, 5)
    assert (
        0.5 < expected["accuracy"]["low"] <= expected["accuracy"]["mean"] <= expected["accuracy"]["high"] <= 1
    )
    for word, hz in TONES.items():
        found = web.post("/v1/vocabularies/tones/recognitions", files={"file": clip(hz, seed=9)}).json()
        assert found["word"] == word
        ranked = [each["similarity"] for each in found["similarities"]]
        assert len(ranked) == len(TONES)
        assert ranked == sorted(ranked, reverse=True)
    assert transcribe(web, clip(200, seed=9), vocabulary="tones").json() == {"text": "low"}


def test_an_unknown_word_is_null(web: httpx.Client, clip: Clip) -> None:
    enrol(web, clip, "pair", {"low": 150, "deep": 250})
    found = web.post("/v1/vocabularies/pair/recognitions", files={"file": clip(2800)}).json()
    assert found["word"] is None, found


def test_file_names_are_the_labels_if_none_are_given(web: httpx.Client, clip: Clip) -> None:
    files = [("files", (f"{word}.wav", clip(hz))) for word, hz in TONES.items()]
    created = web.post("/v1/vocabularies/stems", files=files).json()
    assert created["words"] == sorted(TONES)
    assert created["expected"] is None, "one clip per word allows no estimate"


def test_a_vocabulary_is_replaced_read_and_deleted(web: httpx.Client, clip: Clip) -> None:
    assert enrol(web, clip, "short-lived").status_code == 201
    again = enrol(web, clip, "short-lived", {"one": 300})
    assert again.status_code == 200
    assert again.json()["words"] == ["one"]
    assert web.get("/v1/vocabularies/short-lived").json() == again.json()
    assert again.json() in web.get("/v1/vocabularies").json()["data"]
    assert web.delete("/v1/vocabularies/short-lived").json() == {"id": "short-lived", "deleted": True}
    assert web.get("/v1/vocabularies/short-lived").status_code == 404
    assert web.delete("/v1/vocabularies/short-lived").status_code == 404


def test_a_voice_changes_the_transcript(web: httpx.Client, clip: Clip) -> None:
    files = [("files", (f"{i}.wav", clip(hz, seed=i))) for i, hz in enumerate([300, 320, 340, 360])]
    created = web.post("/v1/voices/whistler", files=files, data={"texts": ["hello"] * 4})
    assert created.status_code == 201, created.text
    assert {"first_loss", "last_loss"} <= created.json().keys()
    recording = encoded(spoken("we wrote a few words"))
    without = transcribe(web, recording).json()
    assert transcribe(web, recording, deltas="whistler").json() != without
    assert (
        transcribe(web, recording, deltas="whistler").json()
        == transcribe(web, recording, model="metavox:whistler").json()
    )
    assert transcribe(web, recording).json() == without
    enrol(web, clip, "beside")
    both = transcribe(web, clip(1500, seed=9), deltas="whistler", vocabulary="beside")
    assert both.json() == {"text": "high"}
    assert web.get("/v1/voices").json()["data"][0]["id"] == "whistler"
    assert web.delete("/v1/voices/whistler").status_code == 200
    assert transcribe(web, recording, deltas="whistler").status_code == 404


def test_many_requests_at_once(web: httpx.Client, clip: Clip) -> None:
    enrol(web, clip, "crowd")
    words = [*TONES] * 8

    def recognise(word: str) -> str:
        return transcribe(web, clip(TONES[word], seed=9), vocabulary="crowd").json()["text"]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(recognise, words)) == words


def test_health_metrics_and_index(web: httpx.Client, clip: Clip) -> None:
    assert web.get("/healthz").status_code == 200
    assert web.get("/readyz").status_code == 200
    transcribe(web, clip())
    assert 'endpoint="/v1/audio/transcriptions"' in web.get("/metrics").text
    assert "POST /v1/audio/transcriptions" in web.get("/").json()["routes"]
