"""Builds a corpus from a profile: packages in, shards and a manifest out. The result is always the same bytes."""

import hashlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
import soundfile

from metavox.dataset.manifest import COLUMNS, write_manifest
from metavox.dataset.shards import dvc_digest, write_shards
from metavox.errors import UserError
from metavox.files import written_aside
from metavox.sources import SOURCES, apt
from metavox.sources.base import Recording
from metavox.sources.profile import Profile, Synthetic
from metavox.sources.synthetic import espeak
from metavox.sources.synthetic.texts import of_profile, of_recorded
from metavox.threads import side_by_side

STATE = Path(".metavox")
GSM_FRAME_BYTES, GSM_FRAME_SAMPLES, GSM_RATE_HZ = 33, 160, 8000
Progress = Callable[[str, int, int], None]
"""(current task, amount done, total amount)"""


@dataclass(frozen=True)
class Built:
    folder: Path
    digest: str
    rows: pd.DataFrame
    versions: dict[str, str]


def build(
    profile: Profile, out: Path, progress: Progress, accept_new_versions: bool = False, state: Path = STATE
) -> Built:
    """Build the corpus of a profile in `out`, replacing it when the new one is complete.

    Raises UserError for a package that is missing or no longer offered in its pinned version, a speaker pattern that
    matches no speaker, a speaker group in two splits, or a full disk.
    """
    offers = apt.offers(profile.packages, accept_new_versions)
    total = sum(offer.size for offer in offers) // 1_000_000
    downloaded = 0

    def report(offer: apt.Offer) -> None:
        nonlocal downloaded
        downloaded += offer.size
        progress("packages, MB", downloaded // 1_000_000, total)

    try:
        debs = apt.download(offers, state / "debs", report)
        with tempfile.TemporaryDirectory(dir=state) as temporary, written_aside(out) as aside:
            unpacked = {offer.name: Path(temporary) / offer.name for offer in offers}
            for i, _ in enumerate(side_by_side(apt.unpack, debs, unpacked.values()), start=1):
                progress("unpacking", i, len(debs))
            rows = _write(profile, unpacked, aside, progress)
            digest = dvc_digest(aside)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{out}: cannot be written ({why}); its previous content is unchanged") from error
    return Built(out, digest, rows, {offer.name: offer.version for offer in offers})


def _write(profile: Profile, unpacked: dict[str, Path], folder: Path, progress: Progress) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for i, name in enumerate(profile.sources):
        progress("reading sources", i, len(profile.sources))
        recordings = SOURCES[name].recordings(unpacked)
        rows += _write_source(name, limited(recordings, profile.limits.get(name)), folder)
    progress("reading sources", len(profile.sources), len(profile.sources))
    for row in rows:
        row["split"] = profile.splits.of(str(row["speaker"]))
    if profile.synthetic:
        synthetic = _write_source("espeak", _synthetic(profile.synthetic, rows, progress), folder)
        rows += [{**row, "split": "train"} for row in synthetic]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("path", ignore_index=True)
    check_splits(profile, table)
    write_manifest(table, folder / "manifest.csv")
    return table


def _synthetic(
    synthetic: Synthetic, recorded: list[dict[str, object]], progress: Progress
) -> Iterator[Recording]:
    texts = of_profile(synthetic)
    planned = espeak.plan(texts, synthetic.config)
    if synthetic.recorded:
        known = {(text.language, text.text) for text in texts}
        more = [text for text in of_recorded(recorded).accepted if (text.language, text.text) not in known]
        planned += espeak.plan(more, replace(synthetic.config, renditions=synthetic.recorded), planned)
    # Losing one of thousands of words in one voice variant does no harm; losing a text of the user's list would.
    unspoken: list[espeak.Rendition] | None = None if synthetic.texts else []
    for i, recording in enumerate(espeak.recordings(planned, unspoken=unspoken), start=1):
        progress("speaking words", i, len(planned))
        yield recording
    progress("speaking words", len(planned), len(planned))
    if unspoken:
        first = unspoken[0]
        print(
            f"synthetic: espeak-ng has no sound for {len(unspoken)} of {len(planned)} renditions, which are left out; "
            f"the first is {first.prompt.text!r} in {first.prompt.language} by {first.variant}",
            file=sys.stderr,
        )


def limited(recordings: Iterable[Recording], max_texts: int | None) -> Iterator[Recording]:
    """The recordings of the first `max_texts` different texts, or all recordings if it is None."""
    kept: set[str] = set()
    for recording in recordings:
        if max_texts is None or recording.text in kept or len(kept) < max_texts:
            kept.add(recording.text)
            yield recording


def _write_source(source: str, recordings: Iterable[Recording], folder: Path) -> list[dict[str, object]]:
    unique: dict[tuple[str, str, str], Recording] = {}
    for recording in sorted(recordings, key=lambda r: r.name):
        sha256 = hashlib.sha256(recording.data).hexdigest()
        unique.setdefault((recording.speaker, recording.text, sha256), recording)
    names = [recording.name for recording in unique.values()]
    if len(set(names)) != len(names):
        raise ValueError(f"source {source}: two recordings have the same name")
    paths = write_shards(folder / "shards", source, ((r.name, r.data) for r in unique.values()))
    return [_row(recording, source, paths[recording.name], key[2]) for key, recording in unique.items()]


def _row(recording: Recording, source: str, path: str, sha256: str) -> dict[str, object]:
    duration_s, sample_rate = header(recording.data, recording.name)
    return {
        **{name: getattr(recording, name) for name in COLUMNS if hasattr(recording, name)},
        "path": path,
        "speaker_group": recording.speaker_group or recording.speaker,
        "source": source,
        "synthetic": source == "espeak",
        "duration_s": round(duration_s, 4),
        "sample_rate": sample_rate,
        "sha256": sha256,
    }


def header(data: bytes, name: str) -> tuple[float, int]:
    """(duration_s, sample_rate_hz) from the header; (0, 0) if the file cannot be opened.

    Such a file stays in the manifest, so that the quality gate can report it.
    """
    if name.endswith(".gsm"):
        return len(data) // GSM_FRAME_BYTES * GSM_FRAME_SAMPLES / GSM_RATE_HZ, GSM_RATE_HZ
    try:
        info = soundfile.info(io.BytesIO(data))
    except (soundfile.LibsndfileError, TypeError, ValueError):
        return 0.0, 0
    return info.frames / info.samplerate, info.samplerate


def check_splits(profile: Profile, rows: pd.DataFrame) -> None:
    """Raises UserError when a speaker group is in two splits, or a pattern of the profile matches no speaker."""
    speakers = set(rows["speaker"])
    for pattern in (*profile.splits.dev, *profile.splits.test):
        if not any(fnmatchcase(speaker, pattern) for speaker in speakers):
            raise UserError(
                f"splits: {pattern} matches no speaker; expected one of {', '.join(sorted(speakers))}"
            )
    group_splits = rows.groupby("speaker_group")["split"].agg(lambda splits: sorted(set(splits)))
    for speaker_group, splits in group_splits.items():
        if len(splits) > 1:
            raise UserError(
                f"splits: speaker group {speaker_group} is in {' and '.join(splits)}; expected one split"
            )
