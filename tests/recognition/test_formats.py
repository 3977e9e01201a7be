"""Transcripts as JSON, SubRip and WebVTT, parsed back from the output."""

import html
import json
import re

import pytest

from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognition.formats import FORMATS, as_json, as_srt, as_verbose_json, as_vtt

WORDS = (Word("hello", 0.04, 0.4, 0.9), Word("there", 0.5, 1.0, 0.7))
TRANSCRIPT = Transcript(
    (
        Segment("hello there", 0.0, 1.2345, 0.8, WORDS),
        Segment("", 1.2345, 59.9996, 0.0),
        Segment("да", 59.9996, 3661.5, 1.0, (Word("да", 60, 61, 1.0),)),
    ),
    3661.5,
)
CUE = re.compile(r"(?:(\d+)\n)?(\d\d):(\d\d):(\d\d)([,.])(\d{3}) --> (\d\d):(\d\d):(\d\d)\5(\d{3})\n(.+)\n\n")


def cues(text: str, separator: str) -> list[tuple[float, float, str]]:
    parsed = []
    for _, h, m, s, decimal_mark, ms, h2, m2, s2, ms2, line in CUE.findall(text):
        assert decimal_mark == separator
        start, end = (
            int(a) * 3600 + int(b) * 60 + int(c) + int(d) / 1000
            for a, b, c, d in ((h, m, s, ms), (h2, m2, s2, ms2))
        )
        parsed.append((start, end, line))
    return parsed


EXPECTED = [(0.04, 1.0, "hello there"), (60.0, 61.0, "да")]


def test_subrip_parses_back() -> None:
    text = as_srt(TRANSCRIPT)
    assert cues(text, ",") == EXPECTED
    assert CUE.sub("", text) == ""
    assert [index for index, *_ in CUE.findall(text)] == ["1", "2"]


def test_webvtt_parses_back() -> None:
    text = as_vtt(TRANSCRIPT)
    assert text.startswith("WEBVTT\n\n")
    assert cues(text, ".") == EXPECTED
    assert CUE.sub("", text) == "WEBVTT\n\n"


def long_segment(words: int, word_s: float, text: str = "word") -> Segment:
    spoken = tuple(Word(text, 5 + i * word_s, 5 + (i + 0.9) * word_s, 0.9) for i in range(words))
    return Segment(" ".join([text] * words), 3.0, 90.0, 0.9, spoken)


@pytest.mark.parametrize(("words", "word_s"), [(40, 0.3), (40, 1.0), (3, 9.0), (60, 0.1)])
def test_a_long_segment_becomes_readable_cues_with_all_words(words: int, word_s: float) -> None:
    parsed = cues(as_srt(Transcript((long_segment(words, word_s),), 100.0)), ",")
    assert " ".join(line for *_, line in parsed).split() == ["word"] * words
    assert parsed[0][0] == pytest.approx(5.0, abs=0.001)
    for (start, end, line), following in zip(parsed, [*parsed[1:], (1e9, 0, "")], strict=True):
        assert len(line) <= 84
        assert end - start <= max(7.0, word_s)
        assert end <= following[0]


def test_the_end_of_a_sentence_closes_a_half_full_cue() -> None:
    words = [f"{i}{'.' if i == 11 else ''}" for i in range(10, 30)]
    spoken = tuple(Word(f"word{text}", i * 0.2, i * 0.2 + 0.1, 0.9) for i, text in enumerate(words))
    first = cues(
        as_srt(Transcript((Segment(" ".join(w.text for w in spoken), 0, 4, 0.9, spoken),), 9.0)), ","
    )[0]
    assert not first[2].endswith(".")
    long = (Word("a" * 50 + ".", 0.0, 1.0, 0.9), *spoken)
    first = cues(as_srt(Transcript((Segment(" ".join(w.text for w in long), 0, 4, 0.9, long),), 9.0)), ",")[0]
    assert first[2] == "a" * 50 + "."


def test_a_script_without_spaces_stays_one_cue() -> None:
    spoken = (Word("你", 1.0, 1.2, 0.9), Word("好", 1.2, 1.5, 0.9))
    assert cues(as_srt(Transcript((Segment("你好", 0.0, 3.0, 0.9, spoken),), 3.0)), ",") == [
        (1.0, 1.5, "你好")
    ]


@pytest.mark.parametrize("label", ["a --> b", "R&B <loud>", "two\n\nlines"])
def test_any_label_stays_one_cue(label: str) -> None:
    transcript = Transcript((Segment(label, 0.0, 1.0, 1.0), Segment("next", 1.0, 2.0, 1.0)), 2.0)
    flat = " ".join(label.split())
    assert [line for *_, line in cues(as_srt(transcript), ",")] == [flat, "next"]
    body = as_vtt(transcript)
    assert [html.unescape(line) for *_, line in cues(body, ".")] == [flat, "next"]
    assert body.count("-->") == 2
    assert "<" not in body


def test_an_empty_transcript_gives_an_empty_file() -> None:
    empty = Transcript((Segment("", 0.0, 1.0, 0.0),), 1.0)
    assert (as_srt(empty), as_vtt(empty), as_json(empty)) == ("", "WEBVTT\n\n", {"text": ""})
    assert as_verbose_json(empty)["segments"] == as_verbose_json(empty)["words"] == []


def test_json_has_the_fields_that_clients_read() -> None:
    assert as_json(TRANSCRIPT) == {"text": "hello there да"}
    verbose = json.loads(json.dumps(as_verbose_json(TRANSCRIPT, "en")))
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "en", 3661.5)
    assert verbose["text"] == "hello there да"
    assert [s["id"] for s in verbose["segments"]] == [0, 1], "empty segments are left out"
    assert [w["word"] for w in verbose["words"]] == ["hello", "there", "да"]
    assert "words" not in as_verbose_json(TRANSCRIPT, "en", words=False)
    assert verbose["words"][0] == {"word": "hello", "start": 0.04, "end": 0.4, "confidence": 0.9}
    assert set(FORMATS) == {"text", "json", "verbose_json", "srt", "vtt"}
