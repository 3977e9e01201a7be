"""Sessions: words in short speech and text otherwise, deltas that add up, and no repeated encoding."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metavox.audio.read import decode, resample
from metavox.enrolment.enrol import EnrolConfig, enrol
from metavox.errors import UserError
from metavox.recognisers.conformer.kind import ConformerRecogniser, load
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import Delta, OutputRows
from metavox.recognisers.recogniser import Audio, DecodeOptions
from metavox.recognisers.transcript import Word
from metavox.session import LONGEST_WORD_S, Session, session_on
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.espeak import SynthesisConfig, Text
from metavox.sources.synthetic.languages import find_language
from metavox.teaching import TeachConfig, TeachingSet, teach

RATE = 16000
pytestmark = pytest.mark.usefixtures("every_sound_is_speech")
BASE = "b" * 64
WORDS = {"up": (300, 600, 1200), "down": (3000, 900, 250)}


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def quiet(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.005 * noise(seconds, seed)


def melody(word: str, seed: int) -> np.ndarray:
    time = np.arange(RATE // 4) / RATE
    tones = np.concatenate([0.3 * np.sin(2 * np.pi * pitch * time) for pitch in WORDS[word]])
    return (tones + np.random.default_rng(seed).normal(0, 0.003, len(tones))).astype(np.float32)


def recogniser_of(
    make_model: Callable[..., Network], seed: int = 0, digest: str = BASE
) -> ConformerRecogniser:
    return ConformerRecogniser(make_model(seed).requires_grad_(False), f"small-{seed}", digest)


def words(embedder: ConformerRecogniser) -> Delta:
    clips = [(word, melody(word, seed)) for word in WORDS for seed in range(3)]
    return enrol(
        embedder, [clip for _, clip in clips], [word for word, _ in clips], EnrolConfig(spelling=False)
    )


@pytest.fixture
def plain(make_model: Callable[..., Network]) -> Session:
    return session_on(recogniser_of(make_model))


@pytest.fixture
def session(plain: Session) -> Session:
    return plain.using([words(plain.embedder)])  # type: ignore[arg-type]


def speaker(seed: int = 0, base: str = BASE) -> Delta:
    random = torch.Generator().manual_seed(seed)
    return Delta(base, {"ctc.weight": torch.randn(29, 16, generator=random)})


def test_a_recogniser_that_embeds_words_is_its_own_embedder(plain: Session) -> None:
    assert plain.embedder is plain.recogniser
    assert plain.words == ()
    assert plain.rate == RATE


def test_a_recogniser_that_cannot_embed_words_uses_another_embedder(
    make_model: Callable[..., Network],
) -> None:
    embedder = recogniser_of(make_model)
    other = NoEmbedder(recogniser_of(make_model, 1, "o" * 64))
    session = session_on(other, embedder).using([words(embedder)])  # type: ignore[arg-type]
    assert session.recogniser is other
    assert session.transcribe(melody("up", 99)).text == "up"
    assert session.transcribe(noise(0.75)).text == "transcribed by the other"
    with pytest.raises(UserError, match="no-embedder cannot embed words"):
        session_on(other, other)  # type: ignore[arg-type]


class NoEmbedder:
    """A recogniser that embeds no words."""

    def __init__(self, of: ConformerRecogniser):
        self.spec, self.network = replace(of.spec, name="no-embedder"), of.network

    def using(self, deltas: Sequence[Delta]) -> "NoEmbedder":
        return self

    def transcribe(self, audio: Sequence[Audio], options: DecodeOptions) -> list[Any]:
        from metavox.recognisers.transcript import Segment, Transcript

        assert all(isinstance(one, np.ndarray) for one in audio), (
            "it cannot use the encoding of another recogniser"
        )
        return [Transcript((Segment("transcribed by the other", 0.0, 1.0, 1.0),), 1.0) for _ in audio]


@pytest.mark.parametrize("word", WORDS)
def test_an_enrolled_word_is_transcribed_with_times_and_confidence(session: Session, word: str) -> None:
    samples = melody(word, 99)
    guess = session.recognise_word(samples)
    assert guess.word == word
    assert guess.similarities[0][0] == word
    similarities = [value for _, value in guess.similarities]
    assert similarities == sorted(similarities, reverse=True)
    assert 0.5 < guess.confidence <= 1
    transcript = session.transcribe(samples)
    (segment,) = transcript.segments
    assert (segment.text, segment.confidence) == (word, guess.confidence)
    assert (segment.start_s, segment.end_s, transcript.duration_s) == (0.0, 0.75, 0.75)
    assert segment.words == (Word(word, 0.0, 0.75, guess.confidence),)


@pytest.fixture(scope="module")
def spoken() -> tuple[Session, list[tuple[str, np.ndarray]]]:
    """The base that comes with metavox, with four words enrolled from three speakers, and each word by a fourth speaker."""
    voices = espeak.some_variants(4, 1)
    planned = espeak.plan(
        [Text(word, find_language("en"), "sentence") for word in ("lamp", "seven", "window", "stop")],
        SynthesisConfig(voices=voices, renditions=4, seed=12),
    )
    clips = [
        (one.text, resample(*decode(one.data, one.name), RATE))
        for one in espeak.recordings(planned, unspoken=[])
    ]
    support = [clip for i, clip in enumerate(clips) if i % 4 != 3]
    base = session_on(load(Path(str(resources.files("metavox") / "base")), "base", BASE))
    recordings = TeachingSet([samples for _, samples in support], [word for word, _ in support])
    return base.using([teach(base, recordings, TeachConfig("words")).delta]), clips[3::4]


@pytest.mark.parametrize("floor_db", [None, -70.0, -55.0, -45.0])
@pytest.mark.parametrize(
    ("before_s", "after_s"), [(0.0, 0.0), (0.3, 0.0), (1.0, 4.0), (4.0, 0.3), (4.0, 4.0)]
)
def test_an_enrolled_word_is_recognised_with_silence_around_it(
    spoken: tuple[Session, list[tuple[str, np.ndarray]]],
    before_s: float,
    after_s: float,
    floor_db: float | None,
) -> None:
    session, clips = spoken
    level = 0.0 if floor_db is None else 10 ** (floor_db / 20)
    random = np.random.default_rng(0)

    def silence(seconds: float) -> np.ndarray:
        return (level * random.normal(size=round(seconds * RATE))).astype(np.float32)

    for word, clip in clips:
        samples = np.concatenate([silence(before_s), clip, silence(after_s)])
        assert session.recognise_word(samples).word == word
        transcript = session.transcribe(samples)
        (segment,) = transcript.segments
        assert segment.text == word
        assert transcript.duration_s == pytest.approx(len(samples) / RATE)
        assert max(0.0, before_s - 0.2) <= segment.start_s < before_s + 0.2
        end_s = before_s + len(clip) / RATE
        assert end_s - 0.2 < segment.end_s <= end_s + min(after_s, 0.2) + 1e-6


def test_an_unknown_sound_is_transcribed(session: Session, plain: Session) -> None:
    guess = session.recognise_word(noise(0.75))
    assert guess.word is None
    assert 0 <= guess.confidence <= 1
    assert {word for word, _ in guess.similarities} == set(WORDS)
    assert session.transcribe(noise(0.75)) == plain.transcribe(noise(0.75))


def test_speech_longer_than_a_word_is_transcribed(session: Session, plain: Session) -> None:
    long = np.tile(melody("up", 0), 5)
    assert len(long) / RATE > LONGEST_WORD_S
    assert session.transcribe(long) == plain.transcribe(long)
    assert session.recognise_word(long).similarities, "a word is always ranked on request"


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(1), np.zeros(RATE), np.zeros(60 * RATE)])
def test_silence_of_any_length_is_neither_a_word_nor_an_error(session: Session, samples: np.ndarray) -> None:
    transcript = session.transcribe(samples.astype(np.float32))
    assert transcript.text not in WORDS
    assert transcript.duration_s == pytest.approx(len(samples) / RATE)


def test_a_batch_is_transcribed_like_single_recordings_and_in_order(session: Session) -> None:
    recordings = [
        melody("up", 9),
        noise(0.75),
        np.tile(melody("down", 1), 6),
        melody("down", 8),
        noise(5.0, 3),
    ]
    together = session.transcribe_all(recordings)
    assert [t.text for t in together[::3]] == ["up", "down"]
    for one, alone in zip(together, map(session.transcribe, recordings), strict=True):
        assert (one.text, one.duration_s, one.language) == (alone.text, alone.duration_s, alone.language)
        for batched, single in zip(one.segments, alone.segments, strict=True):
            assert (batched.start_s, batched.end_s) == pytest.approx((single.start_s, single.end_s), abs=1e-3)
            # Rounding depends on the batch.
            assert batched.confidence == pytest.approx(single.confidence, rel=1e-3)
    assert session.transcribe_all([]) == []
    assert session.transcribe_all([melody("up", 9)])[0].text == "up"


def test_a_clip_is_encoded_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    encoder = session.recogniser.network.encoder
    acoustic = encoder.acoustic

    def counting(mels: torch.Tensor, lengths: torch.Tensor) -> Any:
        calls.append(len(mels))
        return acoustic(mels, lengths)

    monkeypatch.setattr(encoder, "acoustic", counting)
    for samples in (melody("up", 99), noise(0.75)):
        session.transcribe(samples)
    assert calls == [1, 1]


def test_deltas_add_up_and_the_session_is_unchanged(plain: Session, session: Session) -> None:
    both = session.using([speaker(1)])
    assert both.words == ("down", "up")
    assert both.transcribe(melody("up", 99)).text == "up", (
        "the base distinguishes words, whatever the delta of a speaker"
    )
    sound = noise(0.75)
    assert both.transcribe(sound) == plain.using([speaker(1)]).transcribe(sound)
    assert both.transcribe(sound) != session.transcribe(sound)
    assert session.transcribe(sound) == plain.transcribe(sound)
    once = plain.using([speaker(1), words(plain.embedder), speaker(2)])  # type: ignore[arg-type]
    torch.testing.assert_close(
        once.recogniser.network.ctc.weight, both.using([speaker(2)]).recogniser.network.ctc.weight
    )
    assert plain.using([]).recogniser is plain.recogniser
    assert both.recogniser.network.encoder is not plain.recogniser.network.encoder
    assert both.embedder is plain.embedder


def test_incompatible_deltas_are_refused_in_one_line(
    plain: Session, make_model: Callable[..., Network]
) -> None:
    strange = words(recogniser_of(make_model, 1, "o" * 64))
    enrolled = words(plain.embedder)  # type: ignore[arg-type]
    rows = Delta(BASE, output_rows=OutputRows("ж", torch.ones(1, 16), torch.ones(1)))
    for deltas, line in (
        (
            [strange],
            "the words were enrolled with the embedder oooooooooooo, but this session uses small-0 bbbbbbbbbbbb; enrol them again",
        ),
        ([enrolled, enrolled], "2 deltas hold vocabularies"),
        ([speaker(1, "o" * 64)], "made for base oooooooooooo"),
        ([rows, rows], "add the character 'ж'"),
    ):
        with pytest.raises(UserError, match=line) as caught:
            plain.using(deltas)
        assert "\n" not in str(caught.value)


def test_without_a_vocabulary_no_word_is_recognised(plain: Session) -> None:
    with pytest.raises(UserError, match="no word is enrolled"):
        plain.recognise_word(noise(0.5))
    assert plain.using([speaker(1)]).words == ()


def test_languages_are_checked_if_the_recogniser_declares_them(plain: Session) -> None:
    assert plain.understands("en")
    assert plain.understands("xx")
    assert plain.in_language("").options.language == ""
    english = replace(plain.recogniser.spec, languages=("en", "it"), name="tiny")
    plain.recogniser.spec = english
    assert plain.understands("ita")
    assert plain.in_language("ita").options.language == "it"
    assert not plain.understands("sw")
    with pytest.raises(UserError, match="tiny does not know"):
        plain.in_language("sw")


def test_options_are_passed_to_the_recogniser(
    make_model: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[DecodeOptions] = []
    transcribe_as_usual = ConformerRecogniser.transcribe

    def transcribe(
        self: ConformerRecogniser, audio: Sequence[Audio], options: DecodeOptions = DecodeOptions()
    ) -> Any:
        received.append(options)
        return transcribe_as_usual(self, audio, options)

    monkeypatch.setattr(ConformerRecogniser, "transcribe", transcribe)
    session = session_on(recogniser_of(make_model))
    session = replace(session.using([words(session.embedder)]), options=DecodeOptions(word_times=True))  # type: ignore[arg-type]
    session.transcribe_all([noise(0.75), noise(5.0)])
    assert received == [DecodeOptions(word_times=True)] * 2
