"""`metavox doctor` in this environment, and in folders where something is wrong."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from metavox.cli.doctor import _torch, doctor

REPO = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(REPO / "requirements.lock", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_doctor(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(arguments))


def test_findings_are_lines_and_json(folder: Path) -> None:
    result = run_doctor("--json", "found.json")
    assert result.exit_code == 0, result.output
    found = {item["subject"]: item for item in json.loads((folder / "found.json").read_text())["findings"]}
    assert found["torchaudio"]["state"] == "ok"
    assert found["packages"]["state"] in ("ok", "warn")
    assert found["data"]["state"] == "warn"
    assert "-> metavox corpus build" in result.output


def test_missing_package_fails_and_says_what_to_do(folder: Path) -> None:
    with (folder / "requirements.lock").open("a") as lock:
        lock.write("no-such-package==1.0\n")
    result = run_doctor()
    assert result.exit_code == 1
    assert "fail  packages: missing: no-such-package\n      -> make setup" in result.output


def test_data_that_differs_from_data_dvc_and_a_port_in_use_give_warnings(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "manifest.csv").write_text("path\n")
    (folder / "data.dvc").write_text("outs: [{md5: x.dir, size: 999, nfiles: 1, path: data}]\n")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 3000))
        listener.listen()
        output = run_doctor().output
    assert "warn  data: 1 files, 0.0 MB, unlike data.dvc" in output
    assert "warn  port 3000: in use" in output


@pytest.mark.parametrize(
    ("torchaudio_version", "cuda", "explained"),
    [("2.11.0+cu130", None, True), ("2.11.0+cu130", "13.0", False), ("2.11.0+cpu", None, False)],
)
def test_a_torchaudio_of_another_build_is_explained(
    torchaudio_version: str, cuda: str | None, explained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchaudio.__version__", torchaudio_version)
    monkeypatch.setattr("torch.version.cuda", cuda)
    found = next(one for one in _torch(Path()) if one.subject == "torchaudio")
    assert found.found.startswith(torchaudio_version)
    assert ("`make setup` removed its compiled extension" in found.found) is explained
