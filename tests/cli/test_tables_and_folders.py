"""The commands that learn from labelled recordings accept folders, and tables as spreadsheets save them."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metavox.cli.main import app


@pytest.fixture(scope="module")
def folder(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """speaker/word/*: the recordings of `words`."""
    root = tmp_path_factory.mktemp("labelled") / "labelled"
    with words.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            target = root / row["speaker"] / row["text"]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(words.parent / row["path"], target)
    return root


@pytest.fixture(scope="module")
def spreadsheet(folder: Path) -> Path:
    """A table of the same recordings beside them, as a spreadsheet on Windows saves it."""
    rows = [
        f"labelled\\{one.relative_to(folder)};{one.parent.name};{one.parts[-3]}".replace("/", "\\")
        for one in sorted(folder.glob("*/*/*"))
    ]
    path = folder.parent / "labelled.csv"
    path.write_bytes(
        "\r\n".join(["sep=;", "Path; Text;Speaker;note", *(f"{row};é" for row in rows)]).encode("cp1252")
    )
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.output


@pytest.mark.usefixtures("here")
def test_a_folder_and_a_spreadsheet_give_the_same_result(
    words: Path, folder: Path, spreadsheet: Path, model: str
) -> None:
    shape = ("--way", 3, "--shot", 2, "--queries", 2, "--episodes", 10, "--views", 0, "--base", model)
    found = {}
    for source in (words, folder, spreadsheet):
        status, output = run("fewshot", source, *shape, "--json", f"{source.stem}.json")
        assert status == 0, output
        if source == folder:
            assert "40 recordings, read as filename-pattern (as --pattern '{speaker}/{text}/{}'" in output
        if source == spreadsheet:
            assert "labelled.csv: not UTF-8; read as Windows-1252, as in 'é'" in output
        found[source] = json.loads(Path(f"{source.stem}.json").read_text())
        assert found[source]["unreadable"] == []
        assert (found[source]["way"], found[source]["shot"]) == (3, 2)
    assert found[folder]["accuracy"] == found[spreadsheet]["accuracy"]


@pytest.mark.usefixtures("here")
def test_adapt_and_score_accept_a_folder(folder: Path, spreadsheet: Path, model: str) -> None:
    status, output = run("adapt", folder, "--out", "delta", "--kind", "words", "--folds", 0, "--base", model)
    assert status == 0, output
    assert "delta: 4 words from 40 recordings" in output
    status, output = run("score", spreadsheet, "--delta", "delta", "--base", model, "--json", "scores.json")
    assert status == 0, output
    assert json.loads(Path("scores.json").read_text())["enrolled_recordings"] == 40


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ["fewshot", "adapt", "score"])
def test_unreadable_tables_and_folders_are_one_line_errors(command: str) -> None:
    Path("bad.csv").write_bytes("path,text\na.wav,привет\n".encode("cp1251"))
    Path("twice.csv").write_text("path,text,Text\na.wav,yes,no\n")
    Path("odd").mkdir()
    for name, expected in (
        ("bad.csv", "metavox: bad.csv: byte 16 on line 2 is not UTF-8, and its encoding cannot be detected"),
        ("twice.csv", "metavox: twice.csv: column text more than once in the header, as text, Text;"),
        ("odd", "odd: holds no audio; expected a table path,text,speaker,language, or a folder"),
    ):
        status, output = run(command, name, *(("--out", "delta") if command == "adapt" else ()))
        assert (status, output.count("\n")) == (2, 1), output
        assert expected in output
