"""Live transcription: words that are final stay as they are, and the text is that of the whole recording."""

import math

import numpy as np
import pytest
from spoken import RATE, spoken

from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognition.speech import windows_of
from metavox.recognition.streaming import LiveTranscription, StreamConfig, Update, _rest

SENTENCES = ("the rain has stopped at last", "we will go home now", "nobody knows the way")
WORD_S = 0.25


def talk() -> np.ndarray:
    quiet = np.zeros(round(1.2 * RATE), np.float32)
    return np.concatenate([quiet, *(part for text in SENTENCES for part in (spoken(text), quiet))])


def ticking(samples: np.ndarray) -> Transcript:
    """A transcript with one word for each quarter of a second, whose last word is uncertain: it names the length."""
    count = int(len(samples) / RATE / WORD_S)
    words = [Word(f"w{i}", i * WORD_S, (i + 1) * WORD_S, 1.0) for i in range(count)]
    words.append(Word(f"maybe{len(samples)}", count * WORD_S, len(samples) / RATE, 0.2))
    text = " ".join(word.text for word in words)
    return Transcript((Segment(text, 0.0, len(samples) / RATE, 1.0, tuple(words)),), len(samples) / RATE)


def heard(
    config: StreamConfig, chunk: int, samples: np.ndarray | None = None, behind: bool = False
) -> list[Update]:
    live = LiveTranscription(ticking, RATE, config)
    samples = talk() if samples is None else samples
    updates = [
        update
        for first in range(0, len(samples), chunk)
        for update in live.push(samples[first : first + chunk], behind)
    ]
    return [*updates, *live.end()]


def final_text(updates: list[Update]) -> str:
    return " ".join(update.text for update in updates if update.final)


def offline_text(config: StreamConfig) -> str:
    from metavox.recognition.speech import SpeechWindows

    finder = SpeechWindows(RATE, config.endpoint_s)
    windows = [*finder.push(talk()), *finder.end()]
    return " ".join(ticking(window.samples).text for window in windows)


@pytest.mark.parametrize("chunk", [160, 1600, 12_345])
@pytest.mark.parametrize("look_ahead_s", [0.3, 1.0, math.inf])
def test_the_final_text_is_that_of_the_whole_recording(chunk: int, look_ahead_s: float) -> None:
    config = StreamConfig(look_ahead_s=look_ahead_s)
    assert final_text(heard(config, chunk)) == offline_text(config)


def test_words_become_final_before_the_sentence_ends() -> None:
    early = [update for update in heard(StreamConfig(), 1600) if update.final and not update.ended]
    assert early
    for update in early:
        assert all(word.end_s <= update.heard_s - 0.3 for word in update.final)
    assert not any(u.final and not u.ended for u in heard(StreamConfig(look_ahead_s=math.inf), 1600))


def test_a_pass_that_changes_its_mind_changes_no_final_word() -> None:
    passes = 0

    def fickle(samples: np.ndarray) -> Transcript:
        nonlocal passes
        passes += 1
        name = "a" if passes < 4 else "b"
        words = tuple(
            Word(f"{name}{i}", i * WORD_S, (i + 1) * WORD_S, 1.0)
            for i in range(int(len(samples) / RATE / WORD_S))
        )
        return Transcript((Segment("x", 0, len(samples) / RATE, 1.0, words),), len(samples) / RATE)

    live = LiveTranscription(fickle, RATE, StreamConfig())
    samples = np.concatenate(
        [np.zeros(RATE, np.float32), *(spoken(text) for text in SENTENCES), np.zeros(2 * RATE, np.float32)]
    )
    updates = [u for first in range(0, len(samples), 1600) for u in live.push(samples[first : first + 1600])]
    updates += live.end()
    words = [word for update in updates for word in update.final]
    times = [(word.start_s + word.end_s) / 2 for word in words]
    assert {word.text[0] for word in words} == {"a", "b"}
    assert times == sorted(times)
    assert len(set(times)) == len(times), "no word is doubled"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("the daughter of the guy who invented it", "who invented it"),
        ("the of the guy who invented it", "who invented it"),  # a word less than before
        ("oh the daughter of of the guy who invented it", "who invented it"),  # and more
        ("the daughter of the guy", ""),
        ("something else entirely here now and then", "then"),
    ],
)
def test_a_pass_is_continued_where_it_fits_the_final_words(words: str, left: str) -> None:
    def spread(text: str) -> list[Word]:
        parts = text.split()
        return [Word(part, i, i + 1, 1.0) for i, part in enumerate(parts)]

    final = spread("the daughter of the guy")
    rest = _rest(final, spread(words), 0.0)
    if left != "then":
        assert " ".join(word.text for word in rest) == left
    else:  # nothing in common: by the time
        assert [word.start_s for word in rest] == [5.0, 6.0]


def test_a_stream_that_is_behind_is_transcribed_once_a_sentence() -> None:
    updates = heard(StreamConfig(), 1600, behind=True)
    assert all(update.ended for update in updates)
    assert final_text(updates) == offline_text(StreamConfig())


def test_silence_is_never_transcribed_and_a_stream_may_stop_in_mid_word() -> None:
    assert heard(StreamConfig(), 1600, np.zeros(60 * RATE, np.float32)) == []
    cut = talk()[: round(2.0 * RATE)]
    assert final_text(heard(StreamConfig(), 1600, cut)).startswith("w0 w1")
    assert windows_of(cut, RATE)


def test_a_click_is_no_word_and_takes_none_from_the_next_sentence() -> None:
    click = np.zeros(2 * RATE, np.float32)
    click[RATE : RATE + 400] = 0.5 * spoken(SENTENCES[0])[3000:3400]
    updates = heard(StreamConfig(), 1600, np.concatenate([click, talk()]))
    plain = heard(StreamConfig(), 1600)
    assert [word.text[:2] for update in updates for word in update.final][:1] == ["w0"]
    assert len(final_text(updates).split()) == pytest.approx(len(final_text(plain).split()), abs=3)


def test_memory_does_not_grow_with_the_stream() -> None:
    live = LiveTranscription(ticking, RATE, StreamConfig(look_ahead_s=math.inf))
    for _ in range(20):
        list(live.push(talk()))
    assert len(live._windows._samples) < 30 * RATE
