"""lhotse reads the exported recordings, texts and speakers of a corpus."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from lhotse import CutSet
from lhotse.dataset.sampling import DynamicBucketingSampler

from metavox.audio.read import read_audio
from metavox.dataset.cuts import cuts, to_shar
from metavox.dataset.manifest import read_manifest
from metavox.dataset.shards import write_shards
from metavox.errors import UserError

KINDS = {"wav": ("WAV", None), "flac": ("FLAC", None), "ogg": ("OGG", "OPUS"), "au": ("AU", "PCM_16")}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    files = []
    for n in range(12):
        kind = list(KINDS)[n % len(KINDS)]
        file = io.BytesIO()
        soundfile.write(
            file, 0.1 * random.normal(size=8000 + 800 * n), 16000, KINDS[kind][1], format=KINDS[kind][0]
        )
        files.append((f"speaker{n % 3}/clip{n}.{kind}", file.getvalue()))
    paths = write_shards(tmp_path / "shards", "noise", files)
    rows = [
        {
            "path": paths[name],
            "text": f"text {n}",
            "speaker": f"v{n % 3}",
            "language": "en",
            "duration_s": 0.5 + 0.05 * n,
        }
        for n, (name, _) in enumerate(files)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


def test_a_shar_holds_every_recording_with_its_words(manifest: Path, tmp_path: Path) -> None:
    assert to_shar(manifest, tmp_path / "shar", shard_size=5) == []
    assert len(list((tmp_path / "shar").glob("recording.*.tar"))) == 3
    rows = read_manifest(manifest)
    read = list(CutSet.from_shar(in_dir=tmp_path / "shar"))
    assert [cut.id for cut in read] == rows["path"].tolist()
    for cut, row in zip(read, rows.to_dict("records"), strict=True):
        assert cut.supervisions[0].text == row["text"]
        assert cut.supervisions[0].speaker == row["speaker"]
        assert cut.custom["split"] == ""
        expected = read_audio(manifest.parent / row["path"])
        samples = cut.resample(16000).load_audio()[0]
        assert len(samples) == pytest.approx(len(expected), abs=2)
        size = min(len(samples), len(expected))
        np.testing.assert_allclose(samples[:size], expected[:size], atol=0.02)


def test_unreadable_recordings_are_named_and_the_others_exported(manifest: Path, tmp_path: Path) -> None:
    rows = read_manifest(manifest)
    rows.loc[3, "path"] = "shards/noise-000.tar/gone.wav"
    rows.to_csv(manifest, index=False)
    (failed,) = to_shar(manifest, tmp_path / "shar")
    assert "gone.wav" in failed
    assert len(list(CutSet.from_shar(in_dir=tmp_path / "shar"))) == 11


def test_without_a_readable_recording_nothing_is_written(manifest: Path, tmp_path: Path) -> None:
    rows = read_manifest(manifest)
    rows.assign(path="shards/gone.tar/x.wav").to_csv(manifest, index=False)
    with pytest.raises(UserError, match="none of 12 recordings"):
        to_shar(manifest, tmp_path / "shar")
    assert not (tmp_path / "shar").exists()


def test_lhotse_samplers_accept_the_rows(manifest: Path) -> None:
    rows = read_manifest(manifest)
    sampler = DynamicBucketingSampler(
        cuts(rows), max_duration=3.0, num_buckets=2, shuffle=True, world_size=1, rank=0
    )
    batches = [[cut.id for cut in batch] for batch in sampler]
    assert sorted(name for batch in batches for name in batch) == sorted(rows["path"])
    assert len(batches) > 2
