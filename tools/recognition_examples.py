"""Write the files of the examples in docs/recognition.md: texts, a grammar, recordings that are joined, and sounds.

    python tools/recognition_examples.py FOLDER     # then, in the project's folder, the commands of the guide

It needs the corpus of `make demo` in data/. The examples' `said`, `wake` and `wake-words` are made first, as printed at the end.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from metavox.audio.read import read_audio

RATE, PAUSE_S = 16000, 0.75
TALK = ["lou/330001P3", "naomi/370007P2", "lou/330006P2", "naomi/370006P1", "lou/330006P3"]
SAID = "please switch on the kitchen lights\nset the living room lights to fifty percent\nwhat will the weather be tomorrow\n"
GRAMMAR = """language: en
intents:
  TurnOn:
    data:
      - sentences: ["(turn | switch) on [the] {area} lights"]
  Brightness:
    data:
      - sentences: ["set [the] {area} lights to {brightness} percent"]
lists:
  area: {values: [kitchen, living room, bedroom]}
  brightness: {range: {from: 10, to: 100, step: 10}}
skip_words: [please]
"""
COMMANDS = """metavox corpus speak --language en-us --words say.txt --voices 1 --renditions 1 --license CC0-1.0 --out said
metavox corpus speak --language en-us --words wake.txt --voices 3 --renditions 3 --license CC0-1.0 --out wake
metavox adapt wake/manifest.csv --out wake-words --kind words"""
STREAM = [
    "said/audio/en-us/00002-gustave.flac",
    "wake/audio/en-us/00001-Jacky.flac",
    "said/audio/en-us/00000-gustave.flac",
]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "say.txt").write_text(SAID)
    (folder / "wake.txt").write_text("hey lantern\nopen october\n")
    (folder / "lights.yaml").write_text(GRAMMAR)
    (folder / "actions.yaml").write_text('TurnOn: {webhook: "http://127.0.0.1:8123/api/webhook/lights"}\n')
    join([Path(f"data/shards/queen-000.tar/{name}.mp3") for name in TALK], folder / "talk.wav")
    sounds(folder / "sounds")
    stream = [folder / name for name in STREAM]
    if all(path.is_file() for path in stream):
        join(stream, folder / "stream.wav")
    else:
        print(f"in {folder}, run these, and this script again for stream.wav:\n{COMMANDS}")


def join(parts: Sequence[Path], out: Path) -> None:
    pause = np.zeros(round(PAUSE_S * RATE), np.float32)
    soundfile.write(out, np.concatenate([x for part in parts for x in (read_audio(part, RATE), pause)]), RATE)


def sounds(folder: Path) -> None:
    """Five bells, knocks and sirens each, computed."""
    random, time = np.random.default_rng(0), np.arange(24000) / RATE

    def bell(hz: float) -> np.ndarray:
        return np.sin(2 * np.pi * hz * time) * np.exp(-4 * time) + np.sin(5.52 * np.pi * hz * time) * np.exp(
            -7 * time
        )

    def knock(hz: float) -> np.ndarray:
        knocks = (0.1, 0.1 + hz / 4000, 0.1 + hz / 2000)
        noise = [
            random.standard_normal(24000) * np.exp(-60 * np.maximum(time - at, 0)) * (time > at)
            for at in knocks
        ]
        return np.sum(noise, axis=0)

    def siren(hz: float) -> np.ndarray:
        return np.sin(2 * np.pi * (hz * time + 60 * np.sin(4 * np.pi * time))) * np.hanning(24000)

    for make in (bell, knock, siren):
        for i, hz in enumerate((700, 800, 900, 1000, 760)):
            file = folder / ("teach" if i < 3 else "test") / make.__name__ / f"{i}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, 0.3 * make(hz) + 0.002 * random.standard_normal(24000), RATE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
