"""Drift through the command line: recordings of the same kind, noisier and quieter ones, and errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import WORDS, spoken, write_rows
from typer.testing import CliRunner, Result

from metavox.cli.corpus_drift import DRIFTED, measured
from metavox.cli.main import app
from metavox.dataset.manifest import write_manifest
from metavox.quality.drift import profile

TAKES = 20


def record(folder: Path, takes: range, gain: float = 1.0, noise: float = 0.0) -> Path:
    """Words by two speakers at 16 kHz; `gain` does not apply to the `noise`."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = []
    for take in takes:
        for speaker in range(2):
            for word in WORDS:
                sound = gain * spoken(word, speaker, take)
                path = folder / f"{word}-{speaker}-{take}.wav"
                soundfile.write(path, sound + noise * random.standard_normal(len(sound)), 16000)
                rows.append({"path": path.name, "text": word, "speaker": f"v{speaker}", "language": "en"})
    return write_rows(folder / "rows.csv", rows)


@pytest.fixture(scope="module")
def model(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the profile of its training data."""
    folder = tmp_path_factory.mktemp("profiled")
    copy = Path(shutil.copytree(model, folder / "model"))
    rows = measured(record(folder / "known", range(TAKES)))
    (copy / "data_profile.json").write_text(json.dumps(profile(rows)))
    return copy


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["corpus", "drift", *(str(argument) for argument in arguments)])


def test_other_takes_are_not_drift(model: Path, here: Path) -> None:
    result = run(record(here / "new", range(TAKES, 2 * TAKES)), "--model", model, "--json", "report.json")
    assert result.exit_code == 0, result.output
    assert f"{8 * TAKES} recordings are like the {8 * TAKES} of" in result.output
    report = json.loads(Path("report.json").read_text())
    assert (report["drifted"], report["failed"], report["rows"]) == (False, [], 8 * TAKES)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("change", "name"), [({"noise": 0.05}, "snr_db"), ({"gain": 0.25}, "rms_db")], ids=["noise", "level"]
)
def test_noise_and_level_are_named_with_both_distributions(
    change: dict[str, float], name: str, model: Path, tmp_path: Path
) -> None:
    result = run(record(tmp_path / "new", range(TAKES), **change), "--model", model, "--json", "report.json")
    assert result.exit_code == DRIFTED, result.output
    report = json.loads(Path("report.json").read_text())
    assert report["drifted"] is True
    assert name in [shift["name"] for shift in report["failed"]]
    lines = result.output.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith(f"drift: {name}: divergence"))
    assert lines[at + 1].startswith("  new    5% below")
    assert lines[at + 2].startswith("  known  5% below")


def test_prepared_rows_are_not_measured_again(model: Path, here: Path) -> None:
    rows = measured(record(here / "new", range(4)))
    shutil.rmtree(here / "new")
    write_manifest(rows, here / "prepared.parquet")
    assert run("prepared.parquet", "--model", model).exit_code == 0
    write_manifest(rows.assign(language="cy"), here / "prepared.parquet")
    result = run("prepared.parquet", "--model", model)
    assert result.exit_code == DRIFTED
    assert "unseen language: cy" in result.output


def test_undecodable_recordings_are_left_out_with_a_message(model: Path, here: Path) -> None:
    manifest = record(here / "new", range(4))
    (here / "new" / "one-0-0.wav").write_bytes(b"")
    result = run(manifest, "--model", model, "--json", "report.json")
    assert json.loads(Path("report.json").read_text())["undecodable"] == 1
    assert "1 recordings cannot be decoded and are left out, the first: " in result.stderr
    for path in (here / "new").glob("*.wav"):
        path.write_bytes(b"")
    result = run(manifest, "--model", model)
    assert result.exit_code == 2
    assert "none of 32 recordings can be decoded" in result.stderr


def test_refusals_are_one_line(model: Path, here: Path, tmp_path: Path) -> None:
    manifest = record(here / "new", range(1))
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "data_profile.json").unlink()
    (here / "list.json").write_text("[1]")
    (here / "text.json").write_text("no json")
    for arguments, message in (
        ((manifest, "--model", bare), "the model has no profile of its data"),
        ((manifest, "--profile", "list.json"), "not a profile"),
        ((manifest, "--profile", "text.json"), "not JSON"),
        (("none.csv", "--model", model), "no such file"),
        ((manifest, "--model", "nowhere"), "no model there"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
