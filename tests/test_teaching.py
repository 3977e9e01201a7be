"""Teaching: the detected kind of recordings, warnings, and the expected accuracy."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metavox import teaching
from metavox.adaptation.fine_tune import FineTuneConfig
from metavox.adaptation.guards import GuardConfig
from metavox.adaptation.rehearsal import Rehearsal
from metavox.dataset.store import Store
from metavox.enrolment.enrol import EnrolConfig
from metavox.errors import UserError
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import Delta, OutputRows
from metavox.session import Session, session_on
from metavox.teaching import TeachConfig, TeachingSet, expectations, kind_of, teach

RATE = 16000
SHORT = FineTuneConfig(preset="norms", steps=4, learning_rate=0.01)
UTTERANCES = TeachConfig("utterances", utterances=SHORT, guards=None)


@pytest.fixture
def session(make_model: Callable[..., Network]) -> Session:
    return session_on(ConformerRecogniser(make_model().requires_grad_(False), "small", "b" * 64))


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables, a fifth of a second each, of pitches that `seed` draws."""
    random = np.random.default_rng(seed)
    length = round(seconds * RATE)
    pitch = np.repeat(random.uniform(200, 3000, length // 3200 + 1), 3200)[:length]
    level = np.repeat([0.2, 0.01], RATE // 10)[np.arange(length) % (RATE // 5)]
    return (level * (np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + 0.1 * random.normal(size=length))).astype(
        np.float32
    )


def silent(seconds: float) -> np.ndarray:
    return (1e-4 * np.random.default_rng(5).normal(size=round(seconds * RATE))).astype(np.float32)


def words(*texts: str) -> TeachingSet:
    """Clips of the same word sound alike."""
    return TeachingSet(
        [speech(0.7, len(t)) + 0.01 * speech(0.7, 50 + i) for i, t in enumerate(texts)], list(texts)
    )


@pytest.mark.parametrize("text", ["a\0b", "bell\a"])
def test_a_control_character_in_a_text_is_refused(session: Session, text: str) -> None:
    with pytest.raises(UserError, match="contains a control character"):
        teach(session, words("other", text))


# The detected kind


@pytest.mark.parametrize(
    ("seconds", "texts", "kind", "why"),
    [
        (
            [1] * 4,
            ["on", "off", "on", "off"],
            "words",
            "each of the 2 texts, of at most 1 words, occurs more than once",
        ),
        ([1] * 4, ["On!", "off", "on", "OFF."], "words", "each of the 2 texts"),
        ([6] * 4, ["on", "off", "on", "off"], "words", "each of the 2 texts"),
        (
            [1, 2],
            ["turn it on", "off"],
            "words",
            "the texts have at most 3 words and the recordings at most 3 s",
        ),
        ([1, 2], ["turn it on now", "off"], "utterances", "a text has 4 words"),
        ([1, 5], ["a long one", "off"], "utterances", "a recording of 5.0 s is too long for a word"),
        ([1, 1], ["今日はいい天気", "off"], "words", "the texts have at most 1 words"),
    ],
)
@pytest.mark.parametrize("form", ["samples", "prepared"])
def test_the_kind_of_recordings_is_detected_with_a_reason(
    session: Session, seconds: list[int], texts: list[str], kind: str, why: str, form: str
) -> None:
    clips: list[Any] = [speech(s, i) for i, s in enumerate(seconds)]
    audio = session.recogniser.prepare(clips) if form == "prepared" else clips
    found, because = kind_of(session, TeachingSet(audio, texts))
    assert found == kind
    assert because.startswith(why)


def test_silence_around_a_word_does_not_make_it_an_utterance(session: Session) -> None:
    clips = [np.concatenate([silent(3), speech(0.7, i), silent(4)]) for i in range(2)]
    assert kind_of(session, TeachingSet(clips, ["on", "off"]))[0] == "words"


def test_each_kind_is_detected_and_can_be_requested(session: Session) -> None:
    recordings = words("on", "off", "on", "off")
    auto = teach(session, recordings, TeachConfig(guards=None))
    assert (auto.kind, auto.delta.sections) == ("words", ("vocabulary",))
    assert auto.why.startswith("each of the 2 texts")
    requested = teach(session, recordings, UTTERANCES)
    assert (requested.kind, requested.delta.sections, requested.why) == (
        "utterances",
        ("weights",),
        "it was requested",
    )
    long = TeachingSet([speech(4, i) for i in range(3)], ["a b c d", "c d", "e f"])
    assert teach(session, long, replace(UTTERANCES, kind="auto")).kind == "utterances"
    assert teach(session, long, TeachConfig("words")).delta.words == ("a b c d", "c d", "e f")


def test_an_empty_set_is_refused(session: Session) -> None:
    with pytest.raises(UserError, match="no labelled recording to learn from"):
        teach(session, TeachingSet([], []))


def test_teaching_does_not_change_the_session(session: Session) -> None:
    network = session.recogniser.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recordings = words("on", "off", "on", "off")
    for config in (UTTERANCES, TeachConfig("words")):
        teach(session, recordings, config)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert session.words == ()
    assert not any(p.requires_grad for p in network.parameters())


# Words


def test_spellings_that_differ_in_case_and_punctuation_are_one_word(session: Session) -> None:
    recordings = words("On", "off", "ON!", "Off.", "on", "off")
    delta = teach(session, recordings).delta
    assert delta.words == ("On", "off")
    assert len(recordings.texts) == 6


def test_words_are_learned_without_the_silence_around_them(session: Session) -> None:
    bare = words("on", "off", "on", "off")
    near, far = (
        TeachingSet([np.concatenate([silent(s), one, silent(s)]) for one in bare.audio], bare.texts)  # type: ignore[arg-type]
        for s in (0.1, 4.0)
    )
    first, second = (teach(session, recordings).delta.vocabulary for recordings in (near, far))
    assert first is not None
    assert second is not None
    assert float((first.prototypes * second.prototypes).sum(1).min()) > 0.99


@pytest.mark.parametrize("form", ["samples", "prepared"])
def test_only_the_first_seconds_of_a_long_word_are_used_with_a_warning(session: Session, form: str) -> None:
    endless: Any = [speech(14, 1), speech(14, 2), speech(0.7, 3)]
    first = [one[: 10 * RATE - 160] for one in endless]  # log-mels have a frame more
    if form == "prepared":
        endless, first = (session.embedder.prepare(clips) for clips in (endless, first))
    taught, expected = (
        teach(session, TeachingSet(audio, ["a", "b", "c"]), TeachConfig("words"))
        for audio in (endless, first)
    )
    assert "2 recordings are longer than 10 s; only their first 10 s are used" in taught.warnings
    assert not any("longer" in line for line in expected.warnings)
    assert taught.delta.vocabulary is not None
    assert expected.delta.vocabulary is not None
    torch.testing.assert_close(
        taught.delta.vocabulary.prototypes, expected.delta.vocabulary.prototypes, atol=0.05, rtol=0.05
    )


def test_with_speakers_there_is_an_expectation_for_other_speakers(session: Session) -> None:
    recordings = words(*["on", "off"] * 6)
    taught = teach(session, recordings)
    (line,) = taught.expectations
    assert line.startswith("expected accuracy on new clips of these speakers: ")
    assert line.endswith("(5-fold cross-validation on your recordings, 12 clips)")
    of_speakers = teach(session, replace(recordings, speakers=["anna", "anna", "ben", "ben"] * 3))
    first, second = of_speakers.expectations
    assert first == line
    assert second.startswith("expected accuracy on new clips of other speakers: ")
    assert second.endswith("(leaving out one of your speakers at a time, 12 clips)")


def test_words_are_learned_as_configured(session: Session) -> None:
    recordings = words(*["on", "off"] * 4)
    delta = teach(session, recordings, TeachConfig("words", words=EnrolConfig("prototypes", folds=0))).delta
    assert delta.about["method"] == "prototypes"
    assert "expected" not in delta.about


def hum(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * (np.sin(2 * np.pi * 50 * time) + 0.3 * np.sin(2 * np.pi * 150 * time))).astype(np.float32)


@pytest.mark.parametrize("form", ["samples", "prepared"])
@pytest.mark.parametrize("nothing", [np.zeros(RATE, np.float32), silent(1.0), 500 * silent(1.0), hum(1.0)])
def test_a_word_recording_without_speech_is_refused(session: Session, nothing: np.ndarray, form: str) -> None:
    recordings = words("on", "off", "on")
    clips: Any = [*recordings.audio, nothing]
    audio = session.embedder.prepare(clips) if form == "prepared" else clips
    more = TeachingSet(audio, [*recordings.texts, "hush"], names=["a.wav", "b.wav", "c.wav", "d.wav"])
    with pytest.raises(
        UserError, match=r"^d\.wav: no speech found.*'hush'.* dB.*record the word again"
    ) as caught:
        teach(session, more, TeachConfig("words"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("padded", [False, True])
def test_one_recording_with_two_labels_is_refused(session: Session, padded: bool) -> None:
    recordings = words("on", "off")
    repeated: Any = (
        np.concatenate([np.zeros(RATE, np.float32), recordings.audio[0]]) if padded else recordings.audio[0]
    )
    both = TeachingSet([*recordings.audio, repeated], [*recordings.texts, "off"])
    with pytest.raises(UserError, match=r"^recording 3: the same recording as recording 1, .*'on' .*'off'"):
        teach(session, both, TeachConfig("words"))
    copied = TeachingSet([*recordings.audio, repeated], [*recordings.texts, "On!"])
    assert teach(session, copied, TeachConfig("words")).delta.words == ("off", "on"), (
        "another spelling is the same word"
    )


def test_the_language_of_the_recordings_is_in_the_delta_and_the_session(session: Session) -> None:
    recordings = replace(words("on", "off", "on", "off"), languages=["it"] * 4)
    delta = teach(session, recordings).delta
    assert delta.about["language"] == "it"
    adapted = session.using([delta])
    assert adapted.language == "it"
    assert {one.language for one in adapted.transcribe_all([recordings.audio[0], speech(4)])} == {"it"}  # type: ignore[list-item]
    other = teach(session, replace(words("a b", "c d", "a b", "c d"), languages=["fr"] * 4), UTTERANCES).delta
    assert adapted.using([other]).language == "", "two languages, and neither is chosen"


# Utterances


def test_long_clips_that_cannot_be_cut_are_left_out_with_a_warning(session: Session) -> None:
    recordings = TeachingSet([speech(1, 1), speech(31, 2), speech(1, 3)], ["a b", "c d", "e f"])
    taught = teach(session, recordings, UTTERANCES)
    assert "1 recordings are longer than 30 s; they are left out; cut them into sentences" in taught.warnings
    assert taught.delta.about["recordings"] == 2
    with pytest.raises(UserError, match="all 2 recordings are longer than 30 s; cut them"):
        teach(session, TeachingSet([speech(31, 1)] * 2, ["a b", "c d"]), UTTERANCES)


def test_long_clips_are_cut_into_pieces_with_a_warning(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[str] = []

    def in_two(_: object, samples: np.ndarray, text: str) -> list[tuple[np.ndarray, str]]:
        requested.append(text)
        return [(samples[:RATE], "c"), (samples[RATE : 2 * RATE], "d")]

    monkeypatch.setattr(teaching, "segment_recording", in_two)
    recordings = TeachingSet([speech(1, 1), speech(31, 2), speech(1, 3)], ["a b", "c d", "e f"])
    taught = teach(session, recordings, UTTERANCES)
    assert requested == ["c d"]
    assert taught.delta.about["recordings"] == 4
    (line,) = (line for line in taught.warnings if "30 s" in line)
    assert line.startswith("1 recordings are longer than 30 s; they were cut into 2 pieces by aligning ")


def test_problems_of_recordings_give_warnings(session: Session) -> None:
    recordings = TeachingSet([speech(1, 1), speech(1, 1), np.zeros(RATE, np.float32)], ["a b", "c d", "e f"])
    warnings = teach(session, recordings, UTTERANCES).warnings
    assert any("copies of others" in line for line in warnings)
    assert any("several labels, such as 'a b' and 'c d'" in line for line in warnings)
    assert any("no speech in any of the 1 recordings of 'e f'" in line for line in warnings)


def test_samples_and_prepared_audio_give_the_same_delta(session: Session) -> None:
    clips = [speech(1, seed) for seed in range(4)]
    texts = ["a b", "c d", "e f", "g h"]
    first = teach(session, TeachingSet(clips, texts), UTTERANCES).delta
    second = teach(session, TeachingSet(session.recogniser.prepare(clips), texts), UTTERANCES).delta
    assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())


def test_a_delta_takes_effect_in_the_session_that_uses_it(
    session: Session, make_store: Callable[..., Store]
) -> None:
    store = make_store()
    rows = store.rows.index[store.rows["unit"] == "sentence"]
    recordings = TeachingSet([store[row] for row in rows], store.rows.loc[rows, "text"].tolist())
    reported: list[str] = []
    config = replace(UTTERANCES, utterances=replace(SHORT, steps=30, learning_rate=0.02, folds=2))
    taught = teach(session, recordings, config, record=lambda what, *_: reported.append(what))
    assert reported.count("adapting") == taught.delta.about["steps"]
    assert reported.count("trying 1 of 1") == 60
    with torch.inference_mode():
        before, after = (
            s.recogniser.loss(recordings.audio, recordings.texts)
            for s in (session, session.using([taught.delta]))
        )
    assert after < 0.9 * before
    words_line, characters_line = taught.expectations
    assert words_line.startswith("expected word error rate on new recordings: ")
    assert characters_line.startswith("expected character error rate on new recordings: ")
    assert words_line.endswith("(2-fold cross-validation on your recordings)")
    assert ", without the delta " in words_line


def test_cross_validation_keeps_the_base_if_adaptation_hurts(session: Session) -> None:
    recordings = TeachingSet(
        [speech(1, seed) for seed in range(8)], ["a b", "c d", "e f", "g h", "i j", "k l", "m n", "o p"]
    )
    ruinous = replace(SHORT, preset="all", learning_rate=1.0, steps=12, folds=2)
    taught = teach(session, recordings, replace(UTTERANCES, utterances=ruinous))
    assert taught.delta.about["steps"] == 0
    assert not taught.delta.changes_recogniser
    expected: Any = taught.delta.about["expected"]
    assert expected["cer"] == expected["cer_before"]
    assert session.using([taught.delta]).transcribe(speech(1, 1)) == session.transcribe(speech(1, 1))


@pytest.mark.parametrize("folds", [0, 2])
def test_divergence_is_reported_and_the_best_weights_are_kept(session: Session, folds: int) -> None:
    recordings = TeachingSet([speech(1, seed) for seed in range(4)], ["a b", "c d", "e f", "g h"])
    wild = replace(SHORT, preset="all", learning_rate=30.0, steps=16, folds=folds)
    taught = teach(session, recordings, replace(UTTERANCES, utterances=wild))
    (line,) = [line for line in taught.expectations if "stopped early" in line]
    assert "choose a lower learning rate than 30; the weights of step 0 are kept" in line
    assert session.using([taught.delta]).transcribe(speech(1, 1)) == session.transcribe(speech(1, 1))


def test_new_characters_are_reported(session: Session) -> None:
    recordings = TeachingSet([speech(1, seed) for seed in range(3)], ["да нет", "жук", "аб"])
    taught = teach(session, recordings, UTTERANCES)
    assert taught.expectations[0] == "new characters, which the base model lacks: а б д е ж к н т у"


def test_texts_without_writable_characters_are_refused(session: Session) -> None:
    with pytest.raises(UserError, match="none of 2 texts can be written by small"):
        teach(session, TeachingSet([speech(1), speech(1, 1)], ["?!", "..."]), UTTERANCES)


def test_guards_are_reported_and_optional(session: Session) -> None:
    recordings = TeachingSet([speech(1, seed) for seed in range(4)], ["a b", "c d", "e f", "g h"])
    assert "guards" not in teach(session, recordings, UTTERANCES).delta.about
    general = Rehearsal(
        [speech(1, 20 + i) for i in range(3)], [speech(1, 30 + i) for i in range(3)], ["a"] * 3, "tests"
    )
    taught = teach(session, recordings, replace(UTTERANCES, guards=GuardConfig()), general)
    guards: Any = taught.delta.about["guards"]
    assert guards["lines"]
    assert set(guards["lines"]) <= set(taught.expectations)
    assert any("general speech (3 recordings, tests)" in line for line in taught.expectations)


def test_an_empty_delta_has_no_expectations() -> None:
    assert expectations(Delta("b" * 64)) == []
    rows = OutputRows("жя", torch.zeros(2, 4), torch.zeros(2))
    assert expectations(Delta("b" * 64, output_rows=rows)) == [
        "new characters, which the base model lacks: ж я"
    ]


def test_expectations_survive_saving_and_loading(session: Session, tmp_path: Any) -> None:
    from metavox.recognisers.delta import load_delta, save_delta

    for recordings, config in (
        (words(*["on", "off"] * 4), TeachConfig("words")),
        (words("a b", "c d", "e f", "g h"), replace(UTTERANCES, utterances=replace(SHORT, folds=2))),
    ):
        taught = teach(session, recordings, config)
        save_delta(taught.delta, tmp_path / "delta")
        assert taught.expectations
        assert expectations(load_delta(tmp_path / "delta")) == taught.expectations
