import io
import os
import random
import signal
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr

from metavox.errors import UserError
from metavox.sources.profile import read_profile
from metavox.sources.synthetic import engine, espeak
from metavox.sources.synthetic.espeak import SynthesisConfig, Text, plan
from metavox.sources.synthetic.texts import of_cldr

PARAGRAPH = " ".join(["The quick brown fox jumps over the lazy dog, and then it rests for a while."] * 6)


@pytest.fixture(scope="module")
def planned() -> list[espeak.Rendition]:
    return plan(of_cldr(["de", "vi", "en"], 6, seed=3).accepted, SynthesisConfig(renditions=4, seed=3))


def test_a_rendition_does_not_depend_on_earlier_utterances(planned: list[espeak.Rendition]) -> None:
    straight = dict(zip(planned, espeak.speak(planned, workers=1), strict=True))
    shuffled = random.Random(0).sample(planned, len(planned))
    assert dict(zip(shuffled, espeak.speak(shuffled, workers=3), strict=True)) == straight
    assert list(espeak.speak(planned[-1:])) == [straight[planned[-1]]]
    assert min(len(pcm or b"") for pcm in straight.values()) > espeak.RATE_HZ // 10


def test_the_same_plan_gives_the_same_files(planned: list[espeak.Rendition]) -> None:
    first, second = ([(r.name, r.data) for r in espeak.recordings(planned, workers)] for workers in (1, 2))
    assert first == second
    assert len({name for name, _ in first}) == len(planned)


def test_an_accent_speaks_the_words_of_one_language_with_the_sounds_of_another() -> None:
    plain, german = (
        espeak.Rendition(Text(text, language, accent=accent), "m3", 150, 50, 50, 0)
        for text, language, accent in (("the moon rises", "de", ""), ("the moon rises", "en-us", "de"))
    )
    english = replace(german, prompt=replace(german.prompt, accent="en-us"))
    read_as_german, accented, unaccented = espeak.speak([plain, german, english], workers=1)
    assert len({read_as_german, accented, unaccented}) == 3
    reader = engine.start()
    spoken = engine.phonemes(reader, "en-us", "the moon rises. Again")
    assert spoken.count("[[") == 2
    assert "m'u:n" in spoken
    assert accented == next(iter(espeak.speak([german], workers=1)))


def test_recordings_are_trimmed_16_khz_flac(planned: list[espeak.Rendition]) -> None:
    for recording in espeak.recordings(planned[:8]):
        samples, rate = soundfile.read(io.BytesIO(recording.data), dtype="int16")
        loud = np.flatnonzero(np.abs(samples.astype(int)) > espeak.SILENCE)
        assert rate == 16000
        assert loud[0] <= espeak.PAD
        assert len(samples) - loud[-1] <= espeak.PAD
        assert recording.speaker == recording.speaker_group
        assert recording.speaker.startswith("espeak-")


def test_resampling_agrees_with_another_resampler() -> None:
    noise = np.random.default_rng(0).normal(size=22050)
    samples = (soxr.resample(noise, 10000, 22050)[:22050] * 5000).astype(np.int16)
    ours = espeak.resample(samples).astype(float)
    other = soxr.resample(samples.astype(float), 22050, 16000)
    assert len(ours) == 16000
    error = ours[200:-200] - other[200 : len(ours) - 200]
    assert np.sqrt((error**2).mean()) < 0.01 * ours.std()


@pytest.mark.parametrize("length", [1, 2, 440, 441, 442, 441 * 300 + 17])
def test_resampling_is_independent_of_blocks(length: int) -> None:
    samples = np.random.default_rng(1).integers(-20000, 20000, length).astype(np.int16)
    later = np.concatenate([np.zeros(441, np.int16), samples])
    whole = espeak.resample(samples)
    assert len(whole) == length * 320 // 441
    assert np.array_equal(espeak.resample(later)[320 : 320 + len(whole)][24:], whole[24:])


def test_empty_input_stays_empty() -> None:
    assert len(espeak.resample(np.zeros(0, np.int16))) == 0
    assert espeak.encode(b"") == b""


def test_a_paragraph_is_spoken_whole() -> None:
    once, six = (
        plan([Text(text, "en", "sentence")], SynthesisConfig(renditions=1))
        for text in (PARAGRAPH[: len(PARAGRAPH) // 6], PARAGRAPH)
    )
    same = replace(six[0], prompt=once[0].prompt)
    seconds = [
        soundfile.info(io.BytesIO(r.data)).duration for r in espeak.recordings([same, six[0]], workers=1)
    ]
    assert 5.5 < seconds[1] / seconds[0] < 7.5


def test_voice_settings_cover_their_ranges() -> None:
    config = SynthesisConfig((90, 110), (5, 8), (40, 40), ("m1", "f1", "zac"), renditions=7, seed=5)
    drawn = plan([Text(f"text {i}", "en") for i in range(30)], config)
    assert {r.speed for r in drawn} == set(range(90, 111))
    assert {r.pitch for r in drawn} == {5, 6, 7, 8}
    assert {r.pitch_range for r in drawn} == {40}
    for i in range(30):  # no voice repeats before all have spoken
        voices = [r.variant for r in drawn[7 * i : 7 * i + 7]]
        assert [len(set(voices[:3])), len(set(voices[3:6]))] == [3, 3]
    assert len({r.name for r in drawn}) == len(drawn)


def test_another_text_in_the_list_changes_only_indices() -> None:
    texts = [Text(word, "it") for word in ("ciao", "mondo", "treno")]
    fewer, more = (plan(t, SynthesisConfig(renditions=3)) for t in (texts[1:], texts))
    assert [replace(r, index=0) for r in more[3:]] == [replace(r, index=0) for r in fewer]
    other = plan(texts, SynthesisConfig(renditions=3, seed=2))
    assert [r.variant for r in other] != [r.variant for r in more]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"rate": (10, 200)}, "rate 10:200: expected lowest:highest within 80:450"),
        ({"rate": (200, 120)}, "rate 200:120"),
        ({"pitch": (0, 100)}, "pitch 0:100"),
        ({"voices": ("whisper",)}, "voice whisper: no such voice variant, or one that differs between"),
        ({"voices": ("Antonio",)}, "similar: antonio"),
        ({"voices": ("m1", "m1")}, "expected each voice only once"),
    ],
)
def test_settings_that_espeak_does_not_have_are_refused_in_one_line(
    wrong: dict[str, object], line: str
) -> None:
    with pytest.raises(UserError, match=line):
        SynthesisConfig(**wrong)  # type: ignore[arg-type]


def test_variants_that_are_not_reproducible_are_left_out() -> None:
    names = espeak.variants()
    assert len(names) >= 40
    assert not {"whisper", "klatt", "robosoft", "croak"} & set(names)
    assert {"m1", "f1"} <= set(names)
    assert set(espeak.some_variants(5, 1)) < set(names)
    assert espeak.some_variants(5, 1) == espeak.some_variants(5, 1) != espeak.some_variants(5, 2)
    with pytest.raises(UserError, match="voices 99: expected 1 to"):
        espeak.some_variants(99, 1)


def test_an_accent_is_another_speaker_of_the_same_group_and_language() -> None:
    (plain, accent) = plan(
        [Text("hello", "en"), Text("hello", "en-us")], SynthesisConfig(voices=("m1",), renditions=1)
    )
    british, american = (r.recording(b"") for r in (plain, accent))
    assert (british.speaker, american.speaker) == ("espeak-m1", "espeak-en-us-m1")
    assert british.speaker_group == american.speaker_group == "espeak-m1"
    assert british.language == american.language == "en"


def test_a_failed_utterance_is_reported_and_the_next_ones_are_spoken() -> None:
    """A missing voice stands for any failure of the process that speaks one utterance."""
    fine = plan([Text("ciao", "it")], SynthesisConfig(renditions=2))
    wrong = replace(fine[0], prompt=Text("ciao", "nowhere"))
    first, failed, last = espeak.speak([fine[0], wrong, fine[1]], workers=1)
    assert failed is None
    assert [first, last] == list(espeak.speak(fine, workers=1))
    with pytest.raises(
        UserError, match="text 'ciao': espeak-ng has no sound for it in nowhere; leave it out"
    ):
        list(espeak.recordings([wrong]))


def test_a_text_without_sound_is_an_error() -> None:
    with pytest.raises(UserError, match=r"text '\.\.\.': espeak-ng has no sound for it in en"):
        list(espeak.recordings(plan([Text("...", "en")], SynthesisConfig(renditions=1))))


def test_no_process_is_left_when_the_caller_stops_early(planned: list[espeak.Rendition]) -> None:
    utterances = espeak.speak(planned * 50, workers=2)
    next(utterances)
    workers = [pid for pid in _children() if engine.__file__.encode() in _command(pid)]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGINT)  # as Ctrl-C in a terminal, which the caller handles
    assert next(utterances)
    utterances.close()  # type: ignore[attr-defined]
    assert not set(workers) & set(_children())


def _children() -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except FileNotFoundError:  # ps itself
        return b""


def test_languages_of_the_test_split_are_never_synthesised() -> None:
    for name in ("demo", "tiny"):
        synthetic = read_profile(name).synthetic
        assert synthetic is not None
        assert not {"it", "zh", "cmn", "yue"} & set(synthetic.languages)
