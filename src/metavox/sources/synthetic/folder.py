"""Writes a folder of synthetic speech for training: audio/LANGUAGE/*.flac and manifest.csv."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import soundfile

from metavox.dataset.manifest import COLUMNS, read_manifest, write_manifest
from metavox.errors import UserError
from metavox.files import written_aside
from metavox.sources.base import Recording
from metavox.sources.synthetic.espeak import Rendition, Text, encode, speak

SAMPLE = 32  # renditions spoken to estimate the total duration
AUDIO, MANIFEST = "audio", "manifest.csv"


@dataclass(frozen=True)
class Spoken:
    rows: pd.DataFrame
    silent: list[Text]  # espeak-ng has no sound for these


def speak_folder(
    planned: list[Rendition], out: Path, workers: int, progress: Callable[[int], None]
) -> Spoken:
    """Speak the plan into `out`, replacing it when the new folder is complete.

    Raises UserError when `out` contains anything but such a folder, or when espeak-ng has no sound for any text.
    """
    check_out(out)
    rows: list[dict[str, object]] = []
    silent: dict[Text, None] = {}
    with written_aside(out) as aside:
        for i, (rendition, pcm) in enumerate(zip(planned, speak(planned, workers), strict=True), start=1):
            data = encode(pcm or b"")
            if data:
                path = aside / AUDIO / rendition.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                rows.append(_row(rendition.recording(data)))
            else:
                silent[rendition.prompt] = None
            progress(i)
        if not rows:
            raise UserError(
                f"{out}: espeak-ng has no sound for any of {len(planned)} texts; nothing was written"
            )
        table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("path", ignore_index=True)
        write_manifest(table, aside / MANIFEST)
    return Spoken(table, list(silent))


def _row(recording: Recording) -> dict[str, object]:
    info = soundfile.info(io.BytesIO(recording.data))
    return {
        **{name: getattr(recording, name) for name in COLUMNS if hasattr(recording, name)},
        "path": f"{AUDIO}/{recording.name}",
        "source": "espeak",
        "split": "train",
        "synthetic": True,
        "duration_s": round(info.frames / info.samplerate, 4),
        "sample_rate": info.samplerate,
        "sha256": hashlib.sha256(recording.data).hexdigest(),
    }


def estimate_s(planned: list[Rendition], workers: int = 1) -> float:
    """The approximate total duration of the plan in seconds, from a sample of its renditions."""
    sample = planned[:: max(1, len(planned) // SAMPLE)]
    sample_s = 0.0
    for pcm in speak(sample, workers):
        data = encode(pcm or b"")
        sample_s += soundfile.info(io.BytesIO(data)).duration if data else 0.0
    scale = sum(len(r.prompt.text) for r in planned) / sum(len(r.prompt.text) for r in sample)
    return sample_s * scale


def check_out(out: Path) -> None:
    """Raises UserError when `out` contains anything but a folder of synthetic speech written here."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if out.is_dir() and {path.name for path in out.iterdir()} == {AUDIO, MANIFEST}:
        rows = read_manifest(out / MANIFEST)
        files = {path.relative_to(out).as_posix() for path in (out / AUDIO).rglob("*") if not path.is_dir()}
        if (
            rows["synthetic"].all()
            and rows["source"].isin(["espeak", "tts"]).all()
            and files <= set(rows["path"])
        ):
            return
    raise UserError(f"{out}: already exists and is not a folder of synthetic speech; choose another --out")
