"""Subtitles: what broadcasters require of cues, and files that other programs read."""

import html
import io
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pysubs2
import pytest
import webvtt
from wcwidth import wcswidth

from metavox.errors import UserError
from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognition.cues import CueConfig, cues
from metavox.recognition.subtitles import as_ass, as_srt, as_vtt, mux

TEXT = (
    "I have never seen so many books in one place, he said, and closed the door behind him. Nobody answered. The old "
    "woman by the window went on reading as if she had not heard; perhaps she had not. What would you do with them all?"
)
CHINESE = (
    "今天天气很好，我们去公园散步吧。明天可能会下雨，所以最好带上雨伞。你觉得怎么样？我们什么时候出发呢？"
)
ARABIC = "كان الرجل العجوز يقرأ كتابا قديما عن البحر والسفن التي لم تعد أبدا إلى الميناء القديم في المدينة"


def transcript_of(text: str, words_per_s: float = 2.5, speaker: str = "") -> Transcript:
    words, at = [], 1.0
    for token in text.split():
        words.append(Word(token, at, at + 0.8 / words_per_s, 0.9))
        at += 1 / words_per_s + (0.5 if token.endswith((".", "?")) else 0.0)
    segment = Segment(text, 1.0, at, 0.9, tuple(words), speaker=speaker)
    return Transcript((segment,), at + 5, "en")


@pytest.mark.parametrize(
    "text", [TEXT, CHINESE, ARABIC, "Hm.", "Donaudampfschifffahrtsgesellschaftskapitän " * 6]
)
@pytest.mark.parametrize("words_per_s", [1.2, 2.5, 4.0])
def test_cues_keep_to_the_limits(text: str, words_per_s: float) -> None:
    transcript, config = transcript_of(text, words_per_s), CueConfig()
    if text == CHINESE:  # a recogniser gives such a text as one word
        transcript = Transcript((Segment(text, 0.0, 16.0, 0.9),), 20.0)
    found = cues(transcript, config)
    assert "".join(cue.text for cue in found).replace(" ", "") == text.replace(" ", "")
    for cue in found:
        assert len(cue.lines) <= config.lines
        assert all(wcswidth(line) <= config.width for line in cue.lines)
        assert 0 < cue.end_s - cue.start_s <= config.longest_s + 1e-6
    for one, other in pairwise(found):
        assert one.end_s <= other.start_s


def test_cues_break_at_phrases() -> None:
    lines = [line for cue in cues(transcript_of(TEXT)) for line in cue.lines]
    assert sum(line.endswith((".", "?", ",", ";")) for line in lines) >= 5
    assert not any(line.split()[-1] in ("the", "a", "in", "of", "as") for line in lines)


def test_short_cues_are_shown_longer_if_there_is_room() -> None:
    (cue,) = cues(transcript_of("Hm."))
    assert cue.end_s - cue.start_s == pytest.approx(CueConfig().shortest_s)


def test_a_pause_divides_cues() -> None:
    words = (
        Word("wait", 0.0, 0.4, 1.0),
        Word("here", 0.5, 0.9, 1.0),
        Word("now", 6.0, 6.4, 1.0),
        Word("go", 6.5, 6.9, 1.0),
    )
    found = cues(Transcript((Segment("wait here now go", 0, 7, 1.0, words),), 9.0))
    assert [cue.text for cue in found] == ["wait here", "now go"]


@pytest.mark.parametrize("words_per_s", [1.2, 2.5, 5.0])
def test_cues_begin_with_their_first_word(words_per_s: float) -> None:
    transcript = transcript_of(TEXT, words_per_s)
    starts = {word.start_s for word in transcript.segments[0].words}
    assert all(min(abs(cue.start_s - start) for start in starts) < 1e-6 for cue in cues(transcript))


def test_speakers_never_share_a_cue() -> None:
    a, b = transcript_of("yes", speaker="anna").segments[0], transcript_of("no", speaker="bo").segments[0]
    both = Transcript((a, b.later(0.5)), 5.0)
    assert [(cue.text, cue.speaker) for cue in cues(both)] == [("yes", "anna"), ("no", "bo")]
    assert "<v anna>yes" in as_vtt(both)


@pytest.mark.parametrize("text", [TEXT, CHINESE, ARABIC, "a < b & c --> d {x}"])
def test_other_programs_read_the_files(text: str, tmp_path: Path) -> None:
    transcript = transcript_of(text)
    expected = [(cue.start_s, cue.end_s, cue.text) for cue in cues(transcript)]
    (tmp_path / "s.srt").write_text(as_srt(transcript), encoding="utf-8")
    (tmp_path / "s.vtt").write_text(as_vtt(transcript), encoding="utf-8")
    (tmp_path / "s.ass").write_text(as_ass(transcript), encoding="utf-8")
    for form in ("srt", "vtt", "ass"):
        read = pysubs2.load(str(tmp_path / f"s.{form}"))
        assert len(read) == len(expected)
        for event, (start_s, end_s, _) in zip(read, expected, strict=True):
            assert event.start / 1000 == pytest.approx(start_s, abs=0.011)
            assert event.end / 1000 == pytest.approx(end_s, abs=0.011)
    for captions in (webvtt.read(str(tmp_path / "s.vtt")), webvtt.from_srt(str(tmp_path / "s.srt"))):
        texts = [" ".join(html.unescape(caption.text).split()) for caption in captions]
        assert texts == [text.replace("-->", "→") for _, _, text in expected]
        assert [caption.start_in_seconds for caption in captions] == [int(start) for start, _, _ in expected]
    with av.open(io.BytesIO(as_srt(transcript).encode()), format="srt") as file:
        assert sum(packet.size > 0 for packet in file.demux()) == len(expected)


def test_no_speech_gives_files_without_cues() -> None:
    nothing = Transcript((), 12.0)
    assert (as_srt(nothing), as_vtt(nothing)) == ("", "WEBVTT\n\n")
    assert len(pysubs2.SSAFile.from_string(as_ass(nothing))) == 0


def video(path: Path, seconds: float = 3.0) -> Path:
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height = 64, 48
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(round(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, round(16000 * seconds)), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        fifo = av.AudioFifo()
        fifo.write(frame)
        while block := fifo.read(1024, partial=True):
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))
    return path


def test_cues_of_a_copy_are_among_the_pictures_of_their_time(tmp_path: Path) -> None:
    source, transcript = video(tmp_path / "long.mp4", 40.0), transcript_of(f"{TEXT} " * 2)
    mux(source, as_srt(transcript), tmp_path / "copy.mkv")
    with av.open(str(tmp_path / "copy.mkv")) as copy:
        media_s = 0.0
        for packet in copy.demux():
            if packet.pts is None:
                continue
            time_s = float(packet.pts * packet.time_base)
            if packet.stream.type == "subtitle":
                assert abs(time_s - media_s) < 2.5
            elif packet.stream.type == "video":
                media_s = time_s


def test_a_muxed_copy_holds_the_video_and_the_cues(tmp_path: Path) -> None:
    source, transcript = video(tmp_path / "v.mp4"), transcript_of("Two words. And three more.")
    mux(source, as_srt(transcript), tmp_path / "copy.mkv", "en")
    with av.open(str(tmp_path / "copy.mkv")) as copy:
        assert [stream.type for stream in copy.streams] == ["video", "audio", "subtitle"]
        packets = [packet for packet in copy.demux(copy.streams.subtitles[0]) if packet.size]
        assert [bytes(packet).decode().split("\n")[0] for packet in packets] == [
            cue.lines[0] for cue in cues(transcript)
        ]
        assert [float(packet.pts * packet.time_base) for packet in packets] == pytest.approx(
            [cue.start_s for cue in cues(transcript)], abs=0.002
        )
    with av.open(str(source)) as one, av.open(str(tmp_path / "copy.mkv")) as two:
        assert [bytes(p) for p in one.demux(video=0) if p.size] == [
            bytes(p) for p in two.demux(video=0) if p.size
        ]
    with pytest.raises(UserError, match="Matroska"):
        mux(source, "", tmp_path / "copy.avi")
    (tmp_path / "broken.mp4").write_bytes(source.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be copied"):
        mux(tmp_path / "broken.mp4", "", tmp_path / "broken.mkv")
    assert not (tmp_path / "broken.mkv").exists()
