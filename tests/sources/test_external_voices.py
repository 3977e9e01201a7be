"""A user's own synthesiser in place of espeak-ng."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner, Result

from metavox.cli.main import app

MODULE = """
import numpy as np

def speak(text, language, voice):
    if text == "fail":
        raise ValueError("no such word")
    if text == "nothing":
        return np.zeros(0), 24000
    hz = {"low": 200, "high": 400}[voice]
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(24000 * len(text) // 10) / 24000), 24000
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_voices.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def speak(texts: str, *arguments: str) -> Result:
    Path("words.txt").write_text(texts)
    common = ("corpus", "speak", "--language", "en-us", "--words", "words.txt", "--out", "out")
    return CliRunner().invoke(app, [*common, *arguments])


VOICES = ("--voices", "low", "--voices", "high")


def test_each_text_is_spoken_in_each_voice(here: Path) -> None:
    for _ in range(2):  # the folder is replaced
        result = speak("lantern\nred door\n", "--tts", "my_voices:speak", *VOICES)
        assert result.exit_code == 0, (result.output, result.exception)
    rows = pd.read_csv("out/manifest.csv")
    assert sorted(zip(rows["text"], rows["speaker"], strict=True)) == [
        ("lantern", "my_voices-high"),
        ("lantern", "my_voices-low"),
        ("red door", "my_voices-high"),
        ("red door", "my_voices-low"),
    ]
    assert rows["synthetic"].all()
    for row in rows.itertuples():
        samples, rate = soundfile.read(here / "out" / str(row.path))
        assert rate == 16000
        assert len(samples) / rate == pytest.approx(len(str(row.text)) / 10, abs=0.01)
        strongest = np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)
        assert strongest == pytest.approx(400 if "high" in str(row.speaker) else 200, abs=3)


@pytest.mark.parametrize(
    ("texts", "arguments", "message"),
    [
        ("lantern", ("--tts", "my_voices:speak"), "name its voices"),
        ("lantern", ("--tts", "my_voices:sing", *VOICES), "expected module:function"),
        ("lantern", ("--tts", "none_such:speak", *VOICES), "expected module:function"),
        ("lantern\nfail", ("--tts", "my_voices:speak", *VOICES), "ValueError: no such word"),
        ("nothing", ("--tts", "my_voices:speak", *VOICES), "no samples"),
    ],
)
def test_what_fails_is_one_line_and_writes_nothing(
    here: Path, texts: str, arguments: tuple[str, ...], message: str
) -> None:
    result = speak(texts, *arguments)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("metavox: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (here / "out").exists()
