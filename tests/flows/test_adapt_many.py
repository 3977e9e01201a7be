"""A map over voices: on threads and on a real Dask cluster, continued after an interruption, with a voice that fails."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from benchmarks.month import FIRST, Day, write_batch
from flows.adapt_many import LOCAL, adapt_many, task_runner
from flows.repro import StageFailed
from metavox.cli.adapt_each import grouped, share
from metavox.cli.manifests import labelled
from metavox.errors import UserError
from metavox.recognisers.delta import load_delta

pytestmark = pytest.mark.usefixtures("server")
OPTIONS = ["--kind", "words", "--base", "conformer"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten words by each of two voices, and a third whose recordings are silent."""
    path = write_batch(tmp_path_factory.mktemp("voices") / "batch", Day("first", FIRST), take=0)
    rows = pd.read_csv(path)
    soundfile.write(path.parent / "silent.wav", np.zeros(16000), 16000)
    silent = {"path": "silent.wav", "text": "open", "speaker": "mute", "language": "en"}
    pd.concat([rows, pd.DataFrame([silent])]).to_csv(path, index=False)
    return path


def test_each_voice_gets_its_delta_and_a_second_run_computes_nothing(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "deltas"
    arguments = (str(manifest), str(out), "speaker", OPTIONS, 1, str(tmp_path))
    on_threads = adapt_many.with_options(task_runner=task_runner(2))
    assert on_threads(*arguments) == {"learned": 2, "kept": 0, "failed": 1}
    assert sorted(path.name for path in out.iterdir()) == ["f1", "m1"]
    assert len(load_delta(out / "m1").words) == 10
    before = (out / "m1/delta.json").stat().st_mtime_ns
    # A delta that a killed run did not finish is learned again, the others are kept.
    (out / "f1/delta.safetensors").write_bytes(b"half")
    on_dask = adapt_many.with_options(task_runner=task_runner(1, LOCAL))
    assert on_dask(*arguments) == {"learned": 1, "kept": 1, "failed": 1}
    assert (out / "m1/delta.json").stat().st_mtime_ns == before
    assert len(load_delta(out / "f1").words) == 10


def test_a_column_or_part_that_cannot_be_used_is_one_line(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"1 of 1 parts failed; the first: .*no column room"):
        adapt_many(str(manifest), str(tmp_path), "room", OPTIONS, 1, str(tmp_path))
    rows = labelled(manifest)
    with pytest.raises(UserError, match="cannot name a delta"):
        grouped(rows.assign(path="0.wav/x"), "path", manifest)
    groups = grouped(rows, "speaker", manifest)
    parts = [list(share(groups, f"{number}/2")) for number in (1, 2)]
    assert parts == [["f1", "mute"], ["m1"]]
    with pytest.raises(UserError, match="--part 3/2: expected I/N with I from 1 to N"):
        share(groups, "3/2")
