"""Sessions: enrolled words with silence around them, transcription of the rest, base models by name, languages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_whisper import save_small_whisper
from spoken import spoken

from metavox.config import EncoderConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.artifact import save_model
from metavox.recognisers.conformer.network import ModelConfig, Network
from metavox.recognisers.delta import Delta, Vocabulary
from metavox.session import Session, open_for_words, open_session, session_on

RATE = 16000


def tone(hz: float, seconds: float = 0.6) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * hz * time) * np.hanning(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    small = ModelConfig(encoder=EncoderConfig(channels=8, dim=32, layers=1, heads=2, embedding=32))
    path = tmp_path_factory.mktemp("model") / "recogniser"
    save_model(Network(small), path, "# untrained\n")
    return str(path)


@pytest.fixture(scope="module")
def session(folder: str) -> Session:
    """A session with one enrolled word, whose threshold accepts any short speech."""
    plain = open_session(folder)
    digest = plain.embedder.spec.digest
    (prototype,) = plain.embedder.embed([tone(300)])
    return plain.using(
        [Delta(digest, vocabulary=Vocabulary(digest, ("beep",), prototype[None], threshold=-1.0))]
    )


def test_a_base_that_embeds_words_is_its_own_embedder(folder: str) -> None:
    plain = open_session(folder)
    assert plain.recogniser is plain.embedder
    assert open_for_words(folder).embedder.spec.digest == plain.recogniser.spec.digest
    with pytest.raises(UserError, match="no word is enrolled"):
        plain.recognise_word(tone(300))


def test_a_word_is_recognised_with_silence_around_it(session: Session) -> None:
    quiet = np.zeros(5 * RATE, np.float32)
    transcript = session.transcribe(np.concatenate([quiet, tone(300), quiet]))
    assert transcript.text == "beep"
    (segment,) = transcript.segments
    assert 4.8 <= segment.start_s <= 5.1
    assert segment.end_s <= 5.8
    assert transcript.duration_s == pytest.approx(10.6)


def test_long_speech_is_not_a_word(session: Session) -> None:
    assert session.transcribe(np.tile(tone(300), 8)).text != "beep"


def test_other_speech_is_transcribed_as_without_a_vocabulary(session: Session) -> None:
    assert session.vocabulary is not None
    strict = replace(session, vocabulary=replace(session.vocabulary, threshold=2.0))
    plain = replace(session, vocabulary=None)
    clips = [tone(300), tone(900), np.tile(tone(500), 8)]
    assert [one.text for one in strict.transcribe_all(clips)] == [
        one.text for one in plain.transcribe_all(clips)
    ]
    assert strict.recognise_word(clips[0]).word is None
    together = session.transcribe_all(clips)
    assert [one.text for one in together] == [session.transcribe(clip).text for clip in clips]


def test_words_of_another_embedder_are_refused(session: Session) -> None:
    assert session.vocabulary is not None
    other = replace(session.vocabulary, embedder="f" * 64)
    with pytest.raises(UserError, match="enrolled with the embedder ffffffffffff"):
        session.using([Delta("f" * 64, vocabulary=other)])


def test_a_foundation_model_leaves_words_to_the_embedder(
    folder: str, session: Session, tmp_path: Path
) -> None:
    whisper = open_session(str(save_small_whisper(tmp_path / "small-whisper"))).recogniser
    beside = replace(session_on(whisper, session.embedder), vocabulary=session.vocabulary)
    assert beside.transcribe(tone(300)).text == "beep"
    assert beside.understands("fr-FR")
    assert beside.in_language("fra").options.language == "fr"
    with pytest.raises(UserError, match=r"small-whisper does not know it \(Italian\): .*--base"):
        beside.in_language("it")
    assert session.in_language("it").options.language == "it", (
        "a recogniser that names no languages accepts any"
    )


def test_silence_is_no_text_and_speech_has_the_times_of_the_recording(session: Session) -> None:
    plain = replace(session, vocabulary=None)
    quiet, speech = np.zeros(2 * RATE, np.float32), spoken("we will go home now")
    for sound in (quiet, 0.1 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)):
        nothing = plain.transcribe(sound)
        assert (nothing.segments, nothing.speech_s) == ((), 0.0)
    transcript = plain.transcribe(np.concatenate([quiet, speech, quiet]))
    assert transcript.duration_s == pytest.approx(4 + len(speech) / RATE)
    assert transcript.speech_s is not None
    assert 0.5 < transcript.speech_s < len(speech) / RATE + 0.2
    for segment in transcript.segments:
        assert 1.6 < segment.start_s <= segment.end_s < 2.4 + len(speech) / RATE
        assert all(segment.start_s <= w.start_s <= w.end_s <= segment.end_s for w in segment.words)
