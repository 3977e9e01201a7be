"""The commands that recognise: commands, subtitle, spot, listen, speaker, translate, and bad input to each, in one line."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pysubs2
import pytest
import soundfile
from small_whisper import save_small_whisper
from spoken import RATE, spoken
from typer.testing import CliRunner, Result

from metavox.cli.main import app
from metavox.cli.translate import _speak
from metavox.errors import UserError
from metavox.recognisers.bases.find import find_base
from metavox.text import normalise_text

GRAMMAR = """
language: en
intents:
  Light:
    data:
      - sentences: ["turn the light {state}"]
  Timer:
    data:
      - sentences: ["set a timer for {minutes} minutes"]
lists:
  state: {values: [on, off]}
  minutes: {range: {from: 1, to: 20}}
"""
BASE = ("--base", "whisper-tiny.en")
CONFORMER = ("--base", "conformer")


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def line_of(result: Result) -> str:
    assert result.exit_code == 2, (result.output, result.exception)
    lines = [line for line in result.stderr.splitlines() if line.startswith("metavox: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


def write(path: Path, samples: np.ndarray) -> Path:
    soundfile.write(path, samples, RATE)
    return path


@pytest.fixture(scope="module", autouse=True)
def _real_base() -> None:
    """A base that understands English, from the package registry that everything else came from."""
    try:
        find_base("whisper-tiny.en")
    except UserError as error:
        pytest.skip(f"whisper-tiny.en is not here: {error}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("said")
    (folder / "grammar.yaml").write_text(GRAMMAR)
    quiet = np.zeros(RATE, np.float32)
    write(folder / "on.wav", spoken("turn the light on"))
    write(folder / "timer.wav", spoken("set a timer for twelve minutes"))
    write(folder / "other.wav", spoken("nobody knows the way to the old harbour"))
    write(folder / "quiet.wav", np.zeros(5 * RATE, np.float32))
    talk = [part for text in ("we will go home now", "turn the light on") for part in (spoken(text), quiet)]
    write(folder / "talk.wav", np.concatenate([quiet, *talk]))
    (folder / "said.csv").write_text(
        "path,intent,slots\n"
        'on.wav,Light,"{""state"": ""on""}"\n'
        'timer.wav,Timer,"{""minutes"": 12}"\n'
        "quiet.wav,,\n"
    )
    return folder


def test_commands_are_understood_and_actions_are_only_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "actions.yaml").write_text("Light: {python: os:abort}\n")
    out = tmp_path / "out.json"
    arguments = (
        "commands",
        folder / "on.wav",
        folder / "timer.wav",
        folder / "quiet.wav",
        "--grammar",
        folder / "grammar.yaml",
    )
    result = run(*arguments, *BASE, "--actions", tmp_path / "actions.yaml", "--json", out)
    assert result.exit_code == 0, (result.output, result.exception)
    found = list(json.loads(out.read_text()).values())
    assert [(one["intent"], one["slots"]) for one in found] == [
        ("Light", {"state": "on"}),
        ("Timer", {"minutes": 12}),
        (None, {}),
    ]
    assert "would do: os:abort(state='on')" in result.output


def test_a_table_of_commands_is_scored(folder: Path) -> None:
    result = run(
        "commands",
        folder / "said.csv",
        "--grammar",
        folder / "grammar.yaml",
        *BASE,
        "--threshold",
        "-60",
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert "accepted and right: 100" in result.output
    assert "1 were rejected" in result.output


@pytest.mark.parametrize("form", ["srt", "vtt", "ass"])
def test_subtitles_of_a_recording(folder: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"s.{form}"
    result = run("subtitle", folder / "talk.wav", "--format", form, "--out", out, *BASE)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "2 cues" in result.output
    first, second = pysubs2.load(str(out))
    assert 0.8 < first.start / 1000 < 1.5
    assert second.start > first.end
    again = run("subtitle", folder / "quiet.wav", "--format", form, "--out", out, *BASE)
    assert again.exit_code == 0
    assert len(pysubs2.load(str(out), format_=form)) == 0
    assert "no speech" in again.stderr


def test_a_late_sound_track_keeps_the_clock_of_its_video(folder: Path, tmp_path: Path) -> None:
    samples, _ = soundfile.read(folder / "on.wav", dtype="float32")
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height = 64, 48
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for _ in range(100):
            container.mux(
                picture.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24"))
            )
        container.mux(picture.encode(None))
        for first in range(0, len(samples), 1024):
            block = samples[None, first : first + 1024]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 7 * RATE + first, Fraction(1, RATE)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    out = tmp_path / "late.srt"
    result = run("subtitle", tmp_path / "late.mkv", "--out", out, "--mux", tmp_path / "copy.mkv", *BASE)
    assert result.exit_code == 0, (result.output, result.exception)
    assert 6.9 < pysubs2.load(str(out))[0].start / 1000 < 7.6
    assert (tmp_path / "copy.mkv").stat().st_size > 0


def test_channels_are_transcribed_apart(folder: Path, tmp_path: Path) -> None:
    one, other = spoken("turn the light on"), spoken("we will go home now")
    length = len(one) + len(other) + RATE
    stereo = np.zeros((length, 2), np.float32)
    stereo[: len(one), 0] = one
    stereo[-len(other) :, 1] = other
    soundfile.write(tmp_path / "call.wav", stereo, RATE)
    result = run("transcribe", tmp_path / "call.wav", "--channels", "split", *BASE)
    assert result.exit_code == 0, (result.output, result.exception)
    lines = result.stdout.splitlines()
    assert [line[:4] for line in lines] == ["[1] ", "[2] "]
    assert "turn the light on" in lines[0].lower()
    assert "we will go home now" in lines[1].lower()


def test_a_stream_of_odd_bytes_gives_the_text_of_its_sentences(folder: Path) -> None:
    samples, _ = soundfile.read(folder / "talk.wav", dtype="int16")
    data = samples.tobytes() + b"\1"
    command = [sys.executable, "-m", "metavox", "listen", "-", *BASE, "--json", "--look-ahead", "inf"]
    listening = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=False,
        env={**os.environ, "METAVOX_THREADS": "1"},
    )
    assert listening.stdin is not None
    for first in range(0, len(data), 777):
        listening.stdin.write(data[first : first + 777])
    out, _ = listening.communicate(timeout=280)
    events = [json.loads(line) for line in out.decode().splitlines()]
    assert listening.returncode == 0
    assert events[-1]["type"] == "end"
    assert events[-1]["heard"] == pytest.approx(len(samples) / RATE, abs=0.01)
    sentences = [" ".join(word for word, *_ in event["final"]) for event in events[:-1] if event["final"]]
    assert len(sentences) == 2
    whole = run("transcribe", folder / "talk.wav", *BASE).stdout
    assert normalise_text(" ".join(sentences)) == normalise_text(whole)


def test_a_multilingual_whisper_translates_and_speaks(folder: Path, tmp_path: Path) -> None:
    """With random weights, which write something; what is checked is that the decoder is asked to translate."""
    base = save_small_whisper(tmp_path / "small-whisper")
    out = tmp_path / "english.wav"
    said, translated = (
        run(command, folder / "on.wav", "--base", base, "--language", "fr")
        for command in ("transcribe", "translate")
    )
    assert said.exit_code == translated.exit_code == 0, (translated.output, translated.exception)
    assert translated.stdout != said.stdout
    assert "ends in .wav" in line_of(
        run("translate", folder / "on.wav", "--base", base, "--speak", tmp_path / "a.m4a")
    )
    spoken_too = run("translate", folder / "on.wav", *BASE, "--speak", out)
    assert "does not translate" in line_of(spoken_too)


def test_a_translation_is_spoken(tmp_path: Path) -> None:
    _speak("we will go home now", "en", tmp_path / "english.flac")
    samples, rate = soundfile.read(tmp_path / "english.flac")
    assert 0.8 < len(samples) / rate < 4
    with pytest.raises(UserError, match="no text to say"):
        _speak("  ", "en", tmp_path / "nothing.wav")


def test_words_are_spotted(folder: Path, tmp_path: Path) -> None:
    rows = ["path,text,speaker,language"]
    for seed in (1, 2, 3):
        for word in ("lantern", "october"):
            write(tmp_path / f"{word}{seed}.wav", spoken(word, seed=seed))
            rows.append(f"{word}{seed}.wav,{word},s{seed},en")
    (tmp_path / "words.csv").write_text("\n".join(rows) + "\n")
    taught = run("adapt", tmp_path / "words.csv", "--out", tmp_path / "words", *CONFORMER, "--budget", "1")
    assert taught.exit_code == 0, (taught.output, taught.exception)
    quiet = np.zeros(RATE, np.float32)
    write(
        tmp_path / "s.wav",
        np.concatenate([quiet, spoken("we will go home now"), quiet, spoken("lantern", seed=7), quiet]),
    )
    found = run(
        "spot",
        tmp_path / "s.wav",
        "--delta",
        tmp_path / "words",
        "--threshold",
        "0.35",
        "--embedder",
        "conformer",
        "--json",
    )
    assert found.exit_code == 0, (found.output, found.exception)
    assert [json.loads(line)["word"] for line in found.stdout.splitlines()] == ["lantern"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("subtitle", "quiet.wav", "--mux", "x.avi"), "Matroska"),
        (("subtitle", "grammar.yaml"), "not audio that can be decoded"),
        (("transcribe", "quiet.wav", "--channel", "both"), "expected mix"),
        (("transcribe", "quiet.wav", "--hot-word", "!!"), "without letters"),
        (("commands", "on.wav", "--grammar", "said.csv"), "said.csv: not YAML"),
        (("listen", "-", "--rate", "5"), "--rate 5: expected 4000"),
        (("listen", "none.wav"), "none.wav: no such recording"),
        (("translate", "on.wav"), "does not translate"),
        (
            ("speaker", "verify", "anna", "on.wav", "--profiles", "nobody"),
            "was not taught to tell speakers apart",
        ),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(folder)
    assert message in line_of(run(*arguments, *CONFORMER))


def test_a_folder_of_something_else_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep/thesis.txt").write_text("mine")
    (tmp_path / "m.csv").write_text("path,speaker\n")
    assert "is not a speaker model" in line_of(
        run("speaker", "learn", tmp_path / "m.csv", "--out", tmp_path / "keep", *BASE)
    )
    assert (tmp_path / "keep/thesis.txt").read_text() == "mine"
    assert "no rows" in line_of(run("speaker", "learn", tmp_path / "m.csv", "--out", tmp_path / "new", *BASE))


@pytest.mark.parametrize(("slots", "message"), [('"{area: 1}"', "expected JSON"), ("[1]", "expected JSON")])
def test_slots_that_are_no_json_are_refused_before_any_work(
    folder: Path, tmp_path: Path, slots: str, message: str
) -> None:
    (tmp_path / "c.csv").write_text(f"path,intent,slots\nnone.wav,Light,{slots}\n")
    assert message in line_of(
        run("commands", tmp_path / "c.csv", "--grammar", folder / "grammar.yaml", *BASE)
    )


def test_a_command_is_short(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "long.wav", np.tile(spoken("turn the light on"), 30))
    assert "a command lasts up to 30 s" in line_of(
        run("commands", tmp_path / "long.wav", "--grammar", folder / "grammar.yaml", *CONFORMER)
    )
