"""`metavox base`: list, add, info, remove."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from metavox.cli.main import app
from tests.recognisers.bases.making import write_ctranslate2


@pytest.fixture(autouse=True)
def bases(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAVOX_BASES", str(here / "bases"))
    monkeypatch.delenv("METAVOX_MODEL", raising=False)
    return here / "bases"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["base", *arguments])


def test_list(bases: Path) -> None:
    result = run("list")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "comes with metavox" in lines["conformer"]
    assert " no " in lines["openai/whisper-small"]
    assert str(bases) in result.stdout
    found = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert found["conformer"]["here"]
    assert found["whisper-tiny.en"]["licence"] == "MIT"


def test_a_folder_is_added_shown_and_removed(here: Path, bases: Path) -> None:
    write_ctranslate2(here / "ct2")
    result = run("add", "ct2", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert "mine: whisper, " in result.stdout
    assert "to use it: --base mine" in result.stdout
    row = next(row for row in json.loads(run("list", "--json").stdout) if row["name"] == "mine")
    assert (row["here"], row["languages"], row["problem"]) == (True, ["en"], "")
    freed = json.loads(run("remove", "mine", "--json").stdout)
    assert freed["name"] == "mine"
    assert freed["freed_bytes"] > 100_000
    assert not (bases / "mine").exists()


def test_a_damaged_base_is_listed_as_such(here: Path, bases: Path) -> None:
    write_ctranslate2(here / "ct2")
    run("add", "ct2", "--name", "mine")
    (bases / "mine" / "config.json").write_text("{}")
    assert "damaged" in next(line for line in run("list").stdout.splitlines() if line.startswith("mine"))


def test_info(model: str) -> None:
    result = run("info", model)
    assert result.exit_code == 0, result.output
    assert "kind            conformer" in result.stdout
    about = json.loads(run("info", model, "--json").stdout)
    assert about["presets"]
    assert about["weights"] > 1000
    assert about["longest_s"] > 0
    assert len(about["digest"]) == 64


def test_info_of_a_whisper(here: Path) -> None:
    write_ctranslate2(here / "ct2")
    about = json.loads(run("info", "ct2", "--json").stdout)
    assert (about["kind"], about["longest_s"], about["short_context"]) == ("whisper", 30.0, False)
    assert "lora" in about["presets"]
    assert about["embedder"] is None
    assert "embedder        that of conformer" in run("info", "ct2").stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("remove", "conformer"), "comes with metavox and cannot be removed"),
        (("remove", "nothing"), "not in the store"),
        (("add", "nothing"), "expected conformer, whisper-tiny.en"),
        (("info", "nothing"), "expected conformer, whisper-tiny.en"),
        (("add", "whisper-tiny.en", "--name", "x"), "is for a folder"),
    ],
)
def test_user_errors_are_one_line(arguments: tuple[str, ...], line: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert line in result.stderr
    assert len(result.stderr.splitlines()) == 1
