import io
import random

import numpy as np
import pytest
import soundfile
import soxr

from metavox.corpus.profile import read_profile
from metavox.corpus.sources import espeak
from metavox.corpus.sources.base import DIGITS, plain
from metavox.corpus.words import words_of


@pytest.fixture(scope="module")
def planned() -> list[espeak.Rendition]:
    return espeak.plan(["de", "vi", "en"], words=6, renditions=4, seed=3)


def test_a_rendition_depends_on_nothing_spoken_before(planned: list[espeak.Rendition]) -> None:
    straight = dict(zip(planned, espeak.speak(planned, workers=1), strict=True))
    shuffled = random.Random(0).sample(planned, len(planned))
    assert dict(zip(shuffled, espeak.speak(shuffled, workers=3), strict=True)) == straight
    assert list(espeak.speak(planned[-1:])) == [straight[planned[-1]]]
    assert min(map(len, straight.values())) > espeak.RATE_HZ // 10


def test_same_plan_same_files(planned: list[espeak.Rendition]) -> None:
    first, second = ([(r.name, r.data) for r in espeak.recordings(planned, workers)] for workers in (1, 2))
    assert first == second
    assert len({name for name, _ in first}) == len(planned)


def test_recordings_are_trimmed_16_khz_flac(planned: list[espeak.Rendition]) -> None:
    for recording in espeak.recordings(planned[:8]):
        samples, rate = soundfile.read(io.BytesIO(recording.data), dtype="int16")
        loud = np.flatnonzero(np.abs(samples.astype(int)) > espeak.SILENCE)
        assert rate == 16000
        assert loud[0] <= espeak.PAD
        assert len(samples) - loud[-1] <= espeak.PAD
        assert recording.voice.startswith("espeak-")


def test_resampling_agrees_with_another_resampler() -> None:
    noise = np.random.default_rng(0).normal(size=22050)
    samples = (soxr.resample(noise, 10000, 22050)[:22050] * 5000).astype(np.int16)
    ours = espeak.resample(samples).astype(float)
    other = soxr.resample(samples.astype(float), 22050, 16000)
    assert len(ours) == 16000
    error = ours[200:-200] - other[200 : len(ours) - 200]
    assert np.sqrt((error**2).mean()) < 0.01 * ours.std()


def test_variants_that_are_not_exact_are_left_out() -> None:
    names = espeak.variants()
    assert len(names) >= 40
    assert not {"whisper", "klatt", "robosoft", "croak"} & set(names)
    assert {"m1", "f1"} <= set(names)


def test_words_are_short_in_one_script_and_no_digits() -> None:
    for language in ("en", "el", "hi", "ko", "ar", "vi"):
        words = words_of(language, 85, seed=1)
        assert words == words_of(language, 85, seed=1)
        assert len(set(words)) == 85
        digits = {d for forms in DIGITS.values() for d in forms}
        for word in words:
            assert len(word.split()) <= 2
            assert not any(c.isdigit() for c in word)
            assert not digits & set(plain(word).split())
    assert not any(c.isascii() and c.isalpha() for word in words_of("el", 85, 1) for c in word)


def test_languages_of_the_test_are_never_synthesised() -> None:
    for name in ("demo", "tiny"):
        synthetic = read_profile(name).synthetic
        assert synthetic is not None
        assert not {"it", "zh", "cmn", "yue"} & set(synthetic.languages)
