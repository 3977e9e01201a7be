"""Noise or recordings of a site become an environment folder; unusable input gives a one-line error."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from metavox.config import FeatureConfig
from metavox.environments import Kind, detect_kind, learn, read_site, synthetic_words
from metavox.errors import UserError
from metavox.params import Augment
from metavox.training.gan import load_generator

RATE = 8000
FEATURES = FeatureConfig(sample_rate_hz=RATE, mels=16)
QUICK = Augment(steps=25, batch=8, crop_frames=64, latent=4)


def talk(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones every half second with pauses between them, 30 dB above the noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = np.repeat(random.uniform(200, 900, len(time) // 2000 + 1), 2000)[: len(time)]
    on = (time % 0.5 < 0.3) * 0.3
    sound = on * sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3))
    return (sound + 0.003 * random.normal(size=len(time))).astype(np.float32)


def hum(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    rumble = np.random.default_rng(0).normal(size=len(time)) * 0.05
    return (rumble + 0.1 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)


def folder(path: Path, **sounds: np.ndarray) -> Path:
    path.mkdir()
    for name, samples in sounds.items():
        soundfile.write(path / f"{name}.wav", samples, RATE)
    return path


def test_noise_and_recordings_are_distinguished(tmp_path: Path) -> None:
    assert detect_kind(read_site(folder(tmp_path / "a", noise=hum(40)), RATE))[0] == "noise"
    assert detect_kind(read_site(folder(tmp_path / "b", talk=talk(40)), RATE))[0] == "recordings"


@pytest.mark.usefixtures("coarse_charts")
@pytest.mark.parametrize(("kind", "expected"), [("auto", "noise"), ("recordings", "recordings")])
def test_noise_or_recordings_of_a_site_become_an_environment(
    tmp_path: Path, kind: Kind, expected: str
) -> None:
    line = np.clip(talk(40, 1)[::2].repeat(2), -0.2, 0.2) + hum(40) * 0.1
    site = (
        folder(tmp_path / "site", a=hum(20), b=hum(20))
        if kind == "auto"
        else folder(tmp_path / "site", a=line)
    )
    (site / "notes.txt").write_text("not a sound")
    clean = folder(tmp_path / "clean", one=talk(60))
    messages: list[str] = []
    learned = learn(site, tmp_path / "out", kind, clean, FEATURES, QUICK, 1, messages.append)
    about = json.loads((tmp_path / "out/metrics.json").read_text())
    assert about["kind"] == expected
    assert about["minutes"] == pytest.approx(40 / 60, abs=0.01)
    assert any("1 files cannot be read" in line for line in messages)
    assert not about["collapsed"]
    distance = about["distance"]
    assert sum(distance["learned"].values()) < 0.5 * sum(distance["clean"].values())
    assert load_generator(tmp_path / "out", FEATURES).config == learned.generator.config
    page = (tmp_path / "out/report.html").read_text()
    assert "The GAN has not collapsed" in page
    assert "://" not in page
    assert page.count("<audio") == 2 * 3 * 5


def test_espeak_supplies_clean_speech_if_none_is_given() -> None:
    words = synthetic_words(RATE, 1)
    assert len(words) > 100
    assert all(0.1 < len(word) / RATE < 5 for word in words)
    assert np.array_equal(words[0], synthetic_words(RATE, 1)[0])


@pytest.mark.parametrize(
    ("sounds", "message"),
    [
        ({}, "an empty folder"),
        ({"a": np.zeros(40 * RATE, np.float32)}, "all of them silent"),
        ({"a": hum(1)}, "1.0 s of sound; expected at least 30 s"),
        ({"a": hum(4)}, "4.0 s of sound; expected at least 30 s"),
    ],
)
def test_too_little_audio_is_refused(tmp_path: Path, sounds: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_site(folder(tmp_path / "site", **sounds), RATE)


def test_files_without_audio_are_named(tmp_path: Path) -> None:
    site = folder(tmp_path / "site")
    (site / "a.txt").write_text("nothing")
    with pytest.raises(UserError, match=r"no sound in 1 files .*a.txt"):
        read_site(site, RATE)
    with pytest.raises(UserError, match="no such recording"):
        read_site(tmp_path / "nowhere.wav", RATE)
