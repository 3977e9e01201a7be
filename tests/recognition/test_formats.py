"""Transcripts as text and JSON."""

import json
from dataclasses import replace

from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognition.formats import FORMATS, as_json, as_verbose_json, written
from metavox.recognition.hot_words import HotWords

WORDS = (Word("hello", 0.04, 0.4, 0.9), Word("there", 0.5, 1.0, 0.7))
TRANSCRIPT = Transcript(
    (
        Segment("hello there", 0.0, 1.2345, 0.8, WORDS),
        Segment("", 1.2345, 59.9996, 0.0),
        Segment("да", 59.9996, 3661.5, 1.0, (Word("да", 60, 61, 1.0),)),
    ),
    3661.5,
    speech_s=2.25,
)


def test_an_empty_transcript() -> None:
    empty = Transcript((Segment("", 0.0, 1.0, 0.0),), 1.0, speech_s=0.0)
    assert as_json(empty) == {"text": ""}
    verbose = as_verbose_json(empty)
    assert verbose["segments"] == verbose["words"] == []
    assert verbose["speech"] == 0.0


def test_json_has_the_fields_that_clients_read() -> None:
    assert as_json(TRANSCRIPT) == {"text": "hello there да"}
    verbose = json.loads(json.dumps(as_verbose_json(TRANSCRIPT, "en")))
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "en", 3661.5)
    assert verbose["text"] == "hello there да"
    assert verbose["speech"] == 2.25
    assert [s["id"] for s in verbose["segments"]] == [0, 1], "empty segments are left out"
    assert [w["word"] for w in verbose["words"]] == ["hello", "there", "да"]
    assert "words" not in as_verbose_json(TRANSCRIPT, "en", words=False)
    assert verbose["words"][0] == {"word": "hello", "start": 0.04, "end": 0.4, "confidence": 0.9}
    assert "speaker" not in verbose["segments"][0]
    assert "speech" not in as_verbose_json(replace(TRANSCRIPT, speech_s=None))
    assert set(FORMATS) == {"text", "json", "verbose_json", "srt", "vtt", "ass"}


def test_turns_of_speakers_are_lines() -> None:
    one, _, other = TRANSCRIPT.segments
    turns = Transcript(
        (replace(one, speaker="1"), replace(one, speaker="1"), replace(other, speaker="2")), 3661.5
    )
    assert written({"a.wav": turns}, "text", alone=True) == "[1] hello there hello there\n[2] да\n"
    assert written({"a.wav": turns}, "text", alone=False).startswith("a.wav: [1] hello")
    assert as_verbose_json(turns)["segments"][2]["speaker"] == "2"  # type: ignore[index]


def test_an_answer_says_which_hot_words_it_holds() -> None:
    hot = HotWords(["there", "elsewhere"])
    assert json.loads(written({"a": TRANSCRIPT}, "json", alone=True, hot_words=hot)) == {
        "text": "hello there да",
        "hot_words": ["there"],
    }
