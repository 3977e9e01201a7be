"""`metavox transcribe` warns when it mixes two channels that differ, and can transcribe one of them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from metavox.cli.main import app

RATE = 16000


def transcribe(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["transcribe", *map(str, arguments)])


@pytest.fixture
def call(here: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * RATE, 2))
    noise[: 2 * RATE, 0] = noise[2 * RATE :, 1] = 0
    soundfile.write(here / "call.wav", noise, RATE)
    return Path("call.wav")


def test_differing_channels_give_a_warning_until_a_channel_is_chosen(call: Path, model: str) -> None:
    mixed = transcribe(call, "--base", model)
    assert mixed.exit_code == 0, mixed.output
    (line,) = [one for one in mixed.stderr.splitlines() if "channels" in one]
    assert line.startswith("metavox: call.wav: its two channels differ (correlation ")
    assert "--channel left or --channel right" in line
    assert "channels" not in mixed.stdout
    for channel in ("left", "2"):
        chosen = transcribe(call, "--base", model, "--channel", channel)
        assert chosen.exit_code == 0, chosen.output
        assert "channels" not in chosen.stderr


@pytest.mark.parametrize(
    ("channel", "message"),
    [("middle", "--channel 'middle'; expected mix, left, right"), ("3", "no channel 3: it has 2 channels")],
)
def test_an_invalid_channel_is_refused(call: Path, model: str, channel: str, message: str) -> None:
    result = transcribe(call, "--base", model, "--channel", channel)
    assert result.exit_code != 0
    assert message in str(result.exception) + result.output
