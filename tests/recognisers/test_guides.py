"""Guides in the search of every kind of recogniser: grammars, hot words, and the two of them together."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.recognisers.automaton import Automaton, Mark
from metavox.recognisers.guide import Guide, Reading, Together, characters, read
from metavox.recognisers.prefix_search import align, prefix_search
from metavox.recognisers.recogniser import DecodeOptions, Recogniser
from metavox.recognisers.registry import load
from metavox.recognition.hot_words import HotWords
from metavox.text import normalise_text
from tests.recognisers.contract import CLIPS, KINDS, speech

ALPHABET = ("", "a", "b", " ")


def automaton_of(*texts: str) -> Automaton:
    automaton = Automaton()
    for text in texts:
        automaton.skip(automaton.text(automaton.first, text), automaton.final)
    return automaton


def accepts(guide: Guide, text: str) -> bool:
    step = read(guide, Reading(guide.start), characters(text))
    return step is not None and guide.end(step[0].state) is not None


def random_frames(frames: int, seed: int, outputs: int = len(ALPHABET)) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, outputs, generator=generator).mul(2).log_softmax(1).numpy()


def all_texts(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """The likelihood of every text, by adding up all paths."""
    total: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = tuple(k for k, _ in itertools.groupby(path) if k)
        log_prob = sum(log_probs[frame, output] for frame, output in enumerate(path))
        total[text] = np.logaddexp(total.get(text, -math.inf), log_prob)
    return total


@pytest.mark.parametrize("seed", range(6))
def test_prefix_search_finds_the_likeliest_text_of_all(seed: int) -> None:
    log_probs = random_frames(5, seed)
    texts = all_texts(log_probs)
    best = max(texts, key=lambda text: texts[text])
    found = prefix_search(log_probs, ALPHABET, 0, beam=200)
    assert found is not None
    assert tuple(found[0]) == best
    assert found[1] == pytest.approx(texts[best], abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_prefix_search_inside_an_automaton_finds_the_likeliest_of_its_texts(seed: int) -> None:
    log_probs = random_frames(6, seed)
    automaton = automaton_of("ab", "b a", "aa")
    texts = all_texts(log_probs)
    written = {text: "".join(ALPHABET[output] for output in text) for text in texts}
    best = max((text for text in texts if accepts(automaton, written[text])), key=lambda text: texts[text])
    found = prefix_search(log_probs, ALPHABET, 0, 2000, automaton)
    assert found is not None
    assert "".join(written[best].split()) in ("ab", "ba", "aa")
    assert tuple(found[0]) == best
    assert found[1] == pytest.approx(texts[best], abs=1e-6)


def test_without_a_text_that_fits_nothing_is_found() -> None:
    assert prefix_search(random_frames(2, 0), ALPHABET, 0, 8, automaton_of("a b a b")) is None


@pytest.mark.parametrize("seed", range(4))
def test_an_alignment_is_the_likeliest_path_of_the_text(seed: int) -> None:
    log_probs, outputs = random_frames(6, seed), [1, 1, 2]

    def score(path: tuple[int, ...]) -> float:
        return sum(float(log_probs[frame, output]) for frame, output in enumerate(path))

    paths = (
        path
        for path in itertools.product(range(4), repeat=6)
        if [k for k, _ in itertools.groupby(path) if k] == outputs
    )
    best = max(paths, key=score)
    runs, at = [], 0
    for output, group in itertools.groupby(best):
        length = len(list(group))
        runs += [(at, at + length)] if output else []
        at += length
    assert align(log_probs, outputs, 0) == runs
    assert align(log_probs[:3], outputs, 0) is None  # two equal outputs need a blank between them


def test_spaces_between_optional_parts_are_one_or_none() -> None:
    automaton = Automaton()
    after = automaton.text(automaton.first, " turn on ")
    after_the = automaton.text(after, "the")
    automaton.skip(after, after_the)
    automaton.skip(automaton.text(after_the, " light "), automaton.final)
    for text in ("turn on the light", "turn on light", "Turn on, light!"):
        assert accepts(automaton, text)
        assert automaton.marks(text) == []
    for text in ("turn on", "turn onthe light", "turn on the the light", ""):
        assert not accepts(automaton, text)
        assert automaton.marks(text) is None


def test_marks_tell_where_they_were_passed() -> None:
    automaton = Automaton()
    begin = automaton.state()
    automaton.skip(automaton.text(automaton.first, "set "), begin, Mark("begin", "x"))
    automaton.skip(automaton.text(begin, "one"), automaton.final, Mark("end", "x"))
    assert automaton.marks("set one") == [(Mark("begin", "x"), 4), (Mark("end", "x"), 7)]


def test_hot_words_count_when_complete_and_are_taken_back_otherwise() -> None:
    hot = HotWords(["sarcophagus", "red king", "red"], weight=2.0)

    def weight(text: str) -> float:
        step = read(hot, Reading(hot.start), characters(text))
        assert step is not None
        end = hot.end(step[0].state)
        return step[1] + end

    assert weight("the sarcophagus is open") == pytest.approx(2.0 * 11)
    assert weight("sarcophagi") == pytest.approx(0.0)
    assert weight("sarco") == pytest.approx(0.0)
    assert weight("resarcophagus") == pytest.approx(0.0)
    assert weight("red king") == pytest.approx(2.0 * 8)
    shared = HotWords(["anna", "anna maria", "new york", "jersey"], weight=1.0)

    def of_shared(text: str) -> float:
        step = read(shared, Reading(shared.start), characters(text))
        assert step is not None
        return step[1] + shared.end(step[0].state)

    assert of_shared("anna said") == pytest.approx(4.0)
    assert of_shared("anna maria") == pytest.approx(10.0)
    assert of_shared("annas") == pytest.approx(0.0)
    assert of_shared("new jersey") == pytest.approx(6.0)
    assert of_shared("new jerseys") == pytest.approx(0.0)
    assert hot.applied("In the red, king of sarcophagus") == ["sarcophagus", "red king", "red"]
    assert hot.applied("tired") == []


def test_guides_together_forbid_what_one_forbids() -> None:
    both = Together([automaton_of("ab", "ba"), HotWords(["ba"])])
    assert both.strict
    assert accepts(both, "ba")
    assert not accepts(both, "aa")


@pytest.fixture(scope="module", params=[name for name in KINDS if name != "ctc without a head"])
def recogniser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    folder: Path = tmp_path_factory.mktemp("guided") / "base"
    KINDS[request.param].write(folder)
    return load(folder)


def test_a_search_writes_only_what_a_grammar_allows(recogniser: Recogniser) -> None:
    texts = ("rain", "a sun", "we go on")
    options = DecodeOptions(beam=4, guide=automaton_of(*texts), word_times=True)
    for transcript in recogniser.transcribe(CLIPS, options):
        assert normalise_text(transcript.text) in texts
        (segment,) = transcript.segments
        assert segment.log_prob < 0
        assert 0 <= segment.start_s <= segment.end_s <= transcript.duration_s
        times = [time for word in segment.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)


def test_the_only_text_of_a_grammar_is_found_in_any_recording(recogniser: Recogniser) -> None:
    options = DecodeOptions(beam=4, guide=automaton_of("we go on"))
    assert [normalise_text(t.text) for t in recogniser.transcribe([speech(1.5, 5)], options)] == ["we go on"]


def test_a_text_inside_the_grammar_is_no_likelier_than_the_best_of_all(recogniser: Recogniser) -> None:
    free = recogniser.transcribe(CLIPS, DecodeOptions(beam=8))
    inside = recogniser.transcribe(CLIPS, DecodeOptions(beam=8, guide=automaton_of("rain", "a sun")))
    if recogniser.spec.kind != "whisper":  # whose free search takes the best text per token
        for one, other in zip(free, inside, strict=True):
            if other.text:
                assert other.segments[0].log_prob <= sum(s.log_prob for s in one.segments) + 1e-3


def test_hot_words_can_change_a_text(recogniser: Recogniser) -> None:
    clip = [speech(1.2, 3)]
    heavy = recogniser.transcribe(clip, DecodeOptions(beam=8, guide=HotWords(["rain"], weight=60.0)))
    assert "rain" in normalise_text(heavy[0].text).split()


def test_speaker_frames_follow_the_recording(recogniser: Recogniser) -> None:
    short, long = recogniser.speaker_frames([speech(1.0), speech(2.0)])
    assert short.ndim == long.ndim == 2
    assert 1.5 < len(long) / len(short) < 2.5
