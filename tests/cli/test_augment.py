"""`metavox augment`: an environment is applied at any intensity, and errors are one line."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from metavox.cli.main import app
from metavox.config import FeatureConfig
from metavox.training.gan import Environment, GeneratorConfig, save_generator

RATE = 16000


@pytest.fixture
def environment(here: Path) -> Path:
    torch.manual_seed(0)
    folder = here / "site"
    folder.mkdir()
    save_generator(Environment(GeneratorConfig(FeatureConfig(), latent=4, hidden=8)), folder)
    return folder


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["augment", *arguments])
    return result.exit_code, result.output


def test_an_environment_is_applied_at_any_intensity(here: Path, environment: Path) -> None:
    time = np.arange(RATE) / RATE
    clean = (0.3 * np.sin(2 * np.pi * 400 * time) * (time % 0.4 < 0.2)).astype(np.float32)
    soundfile.write(here / "a.wav", clean, RATE)
    changes = []
    for x in ("0", "0.5", "1"):
        code, output = run(
            "apply", "a.wav", "--environment", "site", "--intensity", x, "--out", f"out-{x}.wav"
        )
        assert code == 0, output
        augmented, rate = soundfile.read(here / f"out-{x}.wav", dtype="float32")
        assert rate == RATE
        changes.append(float(np.abs(augmented[:15000] - clean[:15000]).mean()))
    assert changes[0] < 1e-4
    assert changes == sorted(changes)
    run("apply", "a.wav", "--environment", "site", "--seed", "1", "--out", "other.wav")
    other, _ = soundfile.read(here / "other.wav", dtype="float32")
    assert np.abs(other - augmented).max() > 0.001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["apply", "none.wav", "--environment", "site", "--out", "o.wav"], "none.wav: no such recording"),
        (
            ["apply", "none.wav", "--environment", "nowhere", "--out", "o.wav"],
            "no environment generator found",
        ),
        (["learn", "empty", "--out", "new"], "empty: an empty folder"),
        (["learn", "empty", "--out", "other"], "exists and is not an environment"),
    ],
)
def test_errors_are_one_line(here: Path, environment: Path, arguments: list[str], message: str) -> None:
    (here / "empty").mkdir()
    (here / "other").mkdir()
    (here / "other/thesis.txt").write_text("mine")
    code, output = run(*arguments)
    assert code == 2
    assert message in output
    assert len(output.strip().splitlines()) == 1
    assert not (here / "o.wav").exists()
