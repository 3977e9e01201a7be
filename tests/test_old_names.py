"""Old names in users' files and commands are still read, with one line of notice."""

from pathlib import Path

import pandas as pd
import pytest

from metavox import old_names
from metavox.cli.options import _renamed
from metavox.dataset.manifest import read_manifest
from metavox.ingest.layouts import compile_pattern
from metavox.params import load_params


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_with_old_columns_is_read(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.DataFrame({"path": ["a.wav"], "text": ["on"], "voice": ["anna"], "person": ["anna b"]})
    manifest = tmp_path / f"old.{suffix}"
    if suffix == "csv":
        rows.to_csv(manifest, index=False)
    else:
        rows.to_parquet(manifest)
    (row,) = read_manifest(manifest).to_dict("records")
    assert (row["speaker"], row["speaker_group"]) == ("anna", "anna b")
    (line,) = capsys.readouterr().err.splitlines()
    assert "voice is now speaker, person is now speaker_group" in line
    read_manifest(manifest)
    assert not capsys.readouterr().err, "once is enough"


def test_a_column_with_the_new_name_takes_precedence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "both.csv"
    manifest.write_text("path,text,voice,speaker\na.wav,on,old,new\n")
    assert read_manifest(manifest)["speaker"].tolist() == ["new"]
    assert not capsys.readouterr().err


def test_old_parameters_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(
        "features: {window_ms: 32, hop_ms: 8}\nencoder: {places: 4}\nadapt: {max_voices: 3}\n"
        "metatrain: {pairs: 0.5, bank: 7, by: [voice], pairing: cross-voice}\n"
    )
    params = load_params(file)
    assert (params.features.window_s, params.features.hop_s) == (0.032, 0.008)
    assert (params.encoder.position_features, params.adapt.max_speakers) == (4, 3)
    chosen = params.metatrain
    assert (chosen.contrastive_weight, chosen.cohort_size) == (0.5, 7)
    assert (chosen.task_by, chosen.pairing) == (("speaker",), "cross-speaker")
    (line,) = capsys.readouterr().err.splitlines()
    assert "features.window_ms is now features.window_s" in line


def test_every_old_parameter_has_a_current_key() -> None:
    from metavox.params import Params

    current = Params().model_dump(by_alias=True)
    for name in old_names.PARAMS.values():
        section, _, key = name.partition(".")
        assert key in current[section], name


def test_old_options_and_values_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--voice", "anna", "--pairing", "cross-voice", "--pairing=same-voice"]
    found = list(_renamed(arguments, {"--speaker", "--pairing"}))
    assert found == ["--speaker", "anna", "--pairing", "cross-speaker", "--pairing=same-speaker"]
    assert "--voice is called --speaker now" in capsys.readouterr().err


def test_old_fields_of_a_pattern_are_accepted() -> None:
    match = compile_pattern("{voice}_{text}").fullmatch("anna_on")
    assert match is not None
    assert match.groupdict() == {"speaker": "anna", "text": "on"}
