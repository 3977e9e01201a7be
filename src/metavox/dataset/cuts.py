"""Export to lhotse: rows as a CutSet for its samplers, a corpus as Lhotse Shar for its datasets."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import soundfile

from metavox.audio.read import decode, read_bytes
from metavox.dataset.manifest import read_manifest, resolve
from metavox.errors import UserError
from metavox.files import written_aside

if TYPE_CHECKING:
    from lhotse import CutSet, MonoCut

LHOTSE_FORMATS = (".wav", ".flac", ".mp3", ".ogg", ".opus")  # others are converted to FLAC
CUSTOM = ("environment", "split", "unit", "text_kind", "synthetic", "source", "license")


def cuts(rows: pd.DataFrame) -> "CutSet":
    """One cut for each row, without audio, which is enough for lhotse's samplers. The ID of a cut is the row's path."""
    from lhotse import CutSet

    return CutSet.from_cuts([_cut(row) for row in rows.to_dict("records")])


def to_shar(manifest: Path, folder: Path, shard_size: int = 1000) -> list[str]:
    """Write the manifest's recordings as Lhotse Shar, for `CutSet.from_shar(in_dir=folder)`.

    Recordings in a format that lhotse reads keep their encoded bytes. Returns a message for each row that could not be
    read. Raises UserError if none could.
    """
    from lhotse import Recording
    from lhotse.shar.utils import to_shar_placeholder
    from lhotse.shar.writers import JsonlShardWriter, TarWriter

    rows = read_manifest(manifest)
    failed: list[str] = []
    with written_aside(folder) as aside:
        aside.mkdir()
        with (
            TarWriter(f"{aside}/recording.%06d.tar", shard_size) as audio,
            JsonlShardWriter(f"{aside}/cuts.%06d.jsonl.gz", shard_size) as texts,
        ):
            for row in rows.to_dict("records"):
                try:
                    data, suffix = _encoded(resolve(manifest, row["path"]))
                except UserError as error:
                    failed.append(str(error))
                    continue
                recording = to_shar_placeholder(Recording.from_bytes(data, row["path"]))
                audio.write(f"{row['path']}{suffix}", io.BytesIO(data))
                metadata = json.dumps(recording.to_dict()).encode()
                audio.write(f"{row['path']}.json", io.BytesIO(metadata), count=False)
                cut = _cut({**row, "duration_s": recording.duration})
                cut.recording = recording
                texts.write(cut)
        if len(failed) == len(rows):
            raise UserError(
                f"{manifest}: none of {len(rows)} recordings could be read, the first: {failed[:1]}"
            )
    return failed


def _cut(row: dict) -> "MonoCut":
    from lhotse import MonoCut, SupervisionSegment

    name, duration = row["path"], float(row["duration_s"])
    supervision = SupervisionSegment(
        name, name, 0.0, duration, text=row["text"], language=row["language"], speaker=row["speaker"]
    )
    custom = {key: row[key] for key in CUSTOM if key in row}
    return MonoCut(name, 0.0, duration, 0, supervisions=[supervision], custom=custom)


def _encoded(path: Path) -> tuple[bytes, str]:
    """The recording in a format that lhotse reads, and the suffix of that format."""
    data, suffix = read_bytes(path), path.suffix.lower()
    samples, rate = decode(data, str(path))
    if suffix in LHOTSE_FORMATS:
        return data, suffix
    flac = io.BytesIO()
    soundfile.write(flac, samples, rate, format="FLAC")
    return flac.getvalue(), ".flac"
