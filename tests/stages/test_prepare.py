"""prepare measures every recording, keeps the rows of broken files, and does not depend on the number of workers."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from metavox.audio.features import LogMel, extract
from metavox.audio.read import read_audio
from metavox.config import FeatureConfig
from metavox.dataset.store import FEATURES, MANIFEST, Store
from metavox.errors import UserError
from metavox.params import Params
from metavox.stages import prepare


def tone(seconds: float, pitch: float = 440, rate: int = 16000) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A loose file, one in a tar at another rate, a broken and a missing one, one too long for features."""
    data = tmp_path / "data"
    data.mkdir()
    soundfile.write(data / "a.wav", tone(0.5), 16000)
    soundfile.write(tmp_path / "b.flac", tone(0.8, rate=8000), 8000)
    with tarfile.open(data / "s.tar", "w") as shard:
        shard.add(tmp_path / "b.flac", "x/b.flac")
    (data / "broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(data / "long.wav", np.zeros(8000 * 61), 8000, subtype="ULAW")
    names = ["a.wav", "s.tar/x/b.flac", "broken.wav", "missing.wav", "long.wav"]
    rows = pd.DataFrame(
        {"path": names, "text": list("abcde"), "speaker": "v", "language": "xx", "synthetic": False}
    )
    rows.to_csv(data / "manifest.csv", index=False)
    return tmp_path


def run(root: Path, workers: int = 1) -> Path:
    prepare.run(Params.model_validate({"prepare": {"workers": workers}}), root)
    return root / "artifacts/prepared"


def test_rows_are_measured_and_their_log_mels_are_those_of_the_file(root: Path) -> None:
    store = Store(run(root))
    rows = store.rows
    assert rows["text"].tolist() == list("abcde")
    np.testing.assert_allclose(rows["duration_s"][:2], [0.5, 0.8], atol=1e-3)
    assert rows["sample_rate"].tolist() == [16000, 8000, 0, 0, 8000]
    data = root / "data"
    assert rows.at[0, "content"] == hashlib.sha256((data / "a.wav").read_bytes()).hexdigest()
    assert rows.at[1, "content"] == hashlib.sha256((root / "b.flac").read_bytes()).hexdigest()
    transform = LogMel(FeatureConfig())
    for row in (0, 1):
        expected = extract(read_audio(data / str(rows.at[row, "path"])), transform)
        np.testing.assert_allclose(store[row].numpy(), expected.numpy(), atol=0.01)


def test_extras_are_stored_beside_the_log_mels(root: Path) -> None:
    features = {"mels": 16, "extras": ["prosody", "formants"]}
    prepare.run(Params.model_validate({"prepare": {"workers": 1}, "features": features}), root)
    store = Store(root / "artifacts/prepared")
    assert store.config == FeatureConfig(mels=16, extras=("prosody", "formants"))
    stored = store[0]
    assert stored.shape == (51, 25)
    pitch_hz = 100 * stored[5:-5, store.config.columns("prosody")][:, 0].exp()
    np.testing.assert_allclose(pitch_hz.numpy(), 440, rtol=0.005)


def test_an_undecodable_recording_keeps_its_row_with_a_reason_without_local_paths(root: Path) -> None:
    rows = Store(run(root)).rows
    assert rows["error"].ne("").tolist() == [False, False, True, True, False]
    assert rows["frames"].gt(0).tolist() == [True, True, False, False, False]
    assert rows.loc[2:3, "duration_s"].isna().all()
    assert "no such recording" in str(rows.at[3, "error"])
    assert not rows["error"].str.contains(str(root), regex=False).any()
    metrics = json.loads((root / "artifacts/metrics/prepare.json").read_text())
    assert (metrics["recordings"], metrics["undecodable"], metrics["speakers_recorded"]) == (5, 2, 1)


def test_the_number_of_workers_and_the_folder_do_not_change_the_bytes(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "BATCH", 2)
    names = (FEATURES, MANIFEST, "features.json")
    first = [(run(root) / name).read_bytes() for name in names]
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "deeper"
    (root / "data").rename(root / "data-")
    elsewhere.mkdir()
    (root / "data-").rename(elsewhere / "data")
    assert [(run(elsewhere, workers=2) / name).read_bytes() for name in names] == first
    assert sorted(p.name for p in (elsewhere / "artifacts/prepared").iterdir()) == sorted(names)


PREPARE = "import sys; from pathlib import Path; from metavox.params import Params; from metavox.stages import prepare; "
PREPARE += "prepare.run(Params.model_validate({'prepare': {'workers': 1}}), Path(sys.argv[1]))"
OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
}


def test_a_processor_without_wide_vectors_gives_the_same_bytes(root: Path) -> None:
    random = np.random.default_rng(0)
    loud = random.normal(0, 0.1, 16000 * 20) * np.repeat(10.0 ** random.uniform(-4, 0, 200), 1600)
    soundfile.write(root / "data/long.wav", loud, 11025, subtype="FLOAT")
    prepared = run(root)
    here = [(prepared / name).read_bytes() for name in (FEATURES, MANIFEST)]
    shutil.rmtree(root / ".metavox")
    environment = {**os.environ, **OLD}
    subprocess.run([sys.executable, "-W", "ignore", "-c", PREPARE, root], env=environment, check=True)
    assert [(prepared / name).read_bytes() for name in (FEATURES, MANIFEST)] == here


def cached_batches(root: Path) -> dict[str, int]:
    """The cached batches and their modification times."""
    return {p.name: p.stat().st_mtime_ns for p in (root / prepare.CACHE).iterdir()}


def test_only_new_and_changed_recordings_are_decoded_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "BATCH", 2)
    run(root)
    first = cached_batches(root)
    run(root)
    assert cached_batches(root) == first
    soundfile.write(root / "data/missing.wav", tone(0.3), 16000)
    manifest = root / "data/manifest.csv"
    soundfile.write(root / "data/new.wav", tone(0.4), 16000)
    manifest.write_text(manifest.read_text() + "new.wav,f,v,xx,False\n")
    rows = Store(run(root)).rows
    again = cached_batches(root)
    np.testing.assert_allclose(rows["duration_s"][3:].tolist(), [0.3, 61, 0.4], atol=1e-3)
    untouched = again.items() & first.items()
    # The batches of a.wav and of the archive; broken.wav shares a batch with missing.wav.
    assert len(untouched) == 2
    assert len(again) == 4  # outdated batches are deleted


def test_the_cache_of_other_features_is_not_used(root: Path) -> None:
    frames = Store(run(root)).frames
    prepare.run(Params.model_validate({"prepare": {"workers": 1}, "features": {"hop_s": 0.02}}), root)
    assert Store(root / "artifacts/prepared").frames[0] == pytest.approx(frames[0] / 2, abs=1)


def test_a_recording_of_hours_is_named_and_not_held_in_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "MAX_DECODED_S", 60.5)
    rows = Store(run(root)).rows
    assert "over" in str(rows.at[4, "error"])
    assert "cut it" in str(rows.at[4, "error"])
    assert rows.at[0, "error"] == ""


def test_an_empty_manifest_is_refused_and_leaves_nothing(root: Path) -> None:
    (root / "data/manifest.csv").write_text("path,text\n")
    with pytest.raises(UserError, match="no row"):
        run(root)
    assert not (root / "artifacts/prepared").exists()
