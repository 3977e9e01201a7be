"""Speakers: learned directions, normalised scores, enrolment on disk, and who speaks when."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from spoken import RATE, spoken

from metavox.errors import UserError
from metavox.recognisers.recogniser import Recogniser
from metavox.recognisers.transcript import Segment, Transcript, Word
from metavox.recognition.diarization import Turn, as_rttm, diarize, with_speakers
from metavox.recognition.speakers import (
    SpeakerModel,
    enrol,
    enrolled_speakers,
    learn_speakers,
    load_speakers,
    pooled,
    save_speaker,
    save_speakers,
)

BASE, DIM = "b" * 64, 12


def states(speakers: int, clips: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Pooled states of speakers who differ in a few directions, under noise that is stronger in others."""
    random = np.random.default_rng(seed)
    means = np.concatenate([random.normal(0, 1, (speakers, 8)), np.zeros((speakers, DIM - 8))], axis=1)
    rows = (
        np.repeat(means, clips, axis=0)
        + random.normal(0, 1, (speakers * clips, DIM)) * np.r_[[0.2] * 8, [3.0] * (DIM - 8)]
    )
    return rows, [f"s{i}" for i in range(speakers) for _ in range(clips)]


def test_a_learned_model_tells_other_speakers_apart() -> None:
    rows, names = states(60, 10)
    model = learn_speakers(BASE, rows[:400], names[:400])
    new, who = model.embed(rows[400:]), np.array(names[400:])
    np.testing.assert_allclose(np.linalg.norm(new, axis=1), 1.0)
    scores = model.scores(new, new)
    np.testing.assert_allclose(scores, scores.T, atol=1e-9)
    same = who[:, None] == who[None, :]
    off = ~np.eye(len(who), dtype=bool)
    assert np.median(scores[same & off]) > 0 > np.median(scores[~same])
    assert (scores[~same] >= model.threshold).mean() < 0.05
    assert (scores[same & off] >= model.threshold).mean() > 0.4


def test_too_few_speakers_are_refused() -> None:
    rows, names = states(7, 4)
    with pytest.raises(UserError, match=r"7 speakers .* expected at least 8"):
        learn_speakers(BASE, rows, names)


class Pitched:
    """Frames that tell how high a voice is: a stand-in for an encoder, so that clusters are known."""

    class spec:
        sample_rate_hz = RATE
        digest = BASE

    def speaker_frames(self, audio: list[np.ndarray]) -> list[torch.Tensor]:
        out = []
        for clip in audio:
            count = max(1, len(clip) // 320)
            frames = np.abs(
                np.fft.rfft(np.resize(clip, count * 320).reshape(count, 320) * np.hanning(320), 1024)
            )
            bands = np.log(frames[:, 3:63].reshape(count, 12, 5).sum(axis=2) + 1e-3)
            out.append(torch.from_numpy(bands - bands.mean(axis=1, keepdims=True)).float())
        return out


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Pitched()  # type: ignore[return-value]


VOICES = ("f1", "m1", "f5", "m7")
TEXTS = (
    "we will go home now",
    "nobody knows the way",
    "there is a house on the hill",
    "it was raining all day",
)


@pytest.fixture(scope="module")
def model(recogniser: Recogniser) -> SpeakerModel:
    from metavox.sources.synthetic import espeak

    voices = espeak.some_variants(12, 3)
    rows = [(voice, spoken(text, voice=voice)) for voice in voices for text in TEXTS]
    return learn_speakers(BASE, pooled(recogniser, [clip for _, clip in rows]), [voice for voice, _ in rows])


def test_enrolled_speakers_are_kept_and_refused_for_another_base(
    recogniser: Recogniser, model: SpeakerModel, tmp_path: Path
) -> None:
    speaker = enrol(model, recogniser, "anna", [spoken(text) for text in TEXTS[:2]])
    save_speaker(speaker, tmp_path / "people")
    (back,) = enrolled_speakers(tmp_path / "people", model)
    assert (back.name, back.recordings) == ("anna", 2)
    np.testing.assert_allclose(back.embedding, speaker.embedding, atol=1e-5)
    save_speakers(model, tmp_path / "model")
    loaded = load_speakers(tmp_path / "model")
    np.testing.assert_allclose(loaded.projection, model.projection, rtol=1e-5, atol=1e-6)
    assert loaded.threshold == model.threshold
    other = SpeakerModel("c" * 64, model.mean, model.projection, model.cohort)
    with pytest.raises(UserError, match="another base"):
        enrolled_speakers(tmp_path / "people", other)
    (tmp_path / "people/broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken\.json"):
        enrolled_speakers(tmp_path / "people", model)
    (tmp_path / "model/speakers.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="model"):
        load_speakers(tmp_path / "model")
    with pytest.raises(UserError, match=r"0\.0 s of speech"):
        enrol(model, recogniser, "nobody", [np.zeros(RATE, np.float32)])


def test_two_voices_in_turns_are_told_apart(recogniser: Recogniser, model: SpeakerModel) -> None:
    parts, truth, at = [], [], 0.0
    for i, text in enumerate((*TEXTS, *TEXTS[:2])):
        samples = spoken(text, voice=("f1", "m3")[i % 2])
        truth.append((at, at + len(samples) / RATE, i % 2))
        parts += [samples, np.zeros(RATE, np.float32)]
        at += len(samples) / RATE + 1.0
    turns = diarize(model, recogniser, np.concatenate(parts), speakers=2)
    who = [
        next(turn.speaker for turn in turns if turn.start_s <= (a + b) / 2 <= turn.end_s) for a, b, _ in truth
    ]
    assert who == [1 + speaker for *_, speaker in truth]
    assert all(one.end_s <= other.start_s for one, other in pairwise(turns))
    assert diarize(model, recogniser, np.zeros(5 * RATE, np.float32)) == []


def test_words_get_the_speaker_of_their_turn() -> None:
    words = tuple(Word(text, i, i + 0.8, 1.0) for i, text in enumerate(("yes", "no", "maybe")))
    transcript = Transcript(
        (Segment("Yes, no, maybe", 0.0, 3.0, 1.0, words), Segment("so", 3.0, 4.0, 1.0)), 5.0
    )
    told = with_speakers(transcript, [Turn(1, 0.0, 1.9), Turn(2, 2.0, 3.0)])
    assert [(s.text, s.speaker, s.start_s, s.end_s) for s in told.segments] == [
        ("yes no", "1", 0.0, 1.8),
        ("maybe", "2", 2.0, 2.8),
        ("so", "2", 3.0, 4.0),
    ]
    assert as_rttm([Turn(1, 0.5, 2.0)], "call") == "SPEAKER call 1 0.500 1.500 <NA> <NA> speaker1 <NA> <NA>\n"
