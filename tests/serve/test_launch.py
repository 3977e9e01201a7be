"""Starting and stopping the server: a restart loses nothing, and a stop leaves no process."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from clips_to_send import Clip

from metavox.cli.serve import serve
from metavox.errors import UserError
from metavox.serve.client import running_service
from metavox.serve.process import MARK, free_port

COMMAND = "import sys, typer; from metavox.cli.serve import serve; sys.argv[0] = 'metavox'; typer.run(serve)"

WORKER = ("PYTEST_XDIST_TESTRUNUID", "PYTEST_XDIST_WORKER")  # other workers start servers too


def marked() -> dict[int, str]:
    """The mark of the server by process ID, for every server process that this test worker started, orphans included."""
    found = {}
    for process in psutil.process_iter():
        try:
            variables = process.environ()
            ours = all(variables.get(name) == os.environ.get(name) for name in WORKER)
            if (mark := variables.get(MARK)) and ours and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = mark
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_a_restart_keeps_enrolled_words_and_a_stop_leaves_no_process(
    web: httpx.Client, clip: Clip, model_folder: Path, store_folder: Path, tmp_path: Path
) -> None:
    files = [("files", (f"{word}.wav", clip(hz))) for word, hz in {"low": 200, "high": 1500}.items()]
    web.post("/v1/vocabularies/lasting", files=files)
    before, port = set(marked()), free_port()
    options = ["--base", model_folder, "--store", store_folder, "--port", str(port)]
    command = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert command.stdout is not None
        assert f"http://127.0.0.1:{port}" in command.stdout.readline()
        started = set(marked()) - before
        assert len(started) > 1
        url = f"http://127.0.0.1:{port}/v1/vocabularies/lasting/recognitions"
        answer = httpx.post(url, files={"file": clip(1500, seed=9)}, timeout=60, trust_env=False)
        assert answer.json()["word"] == "high"
    finally:
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=60) == 128 + signal.SIGTERM
    assert not started & set(marked())
    assert not list((tmp_path / ".metavox/bentoml").iterdir())


def test_a_port_in_use_is_a_one_line_error(model_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1 port {port} .*--port"):
            serve(base=str(model_folder), port=port, store=tmp_path)


def test_a_server_that_fails_to_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = set(marked())
    with (
        pytest.raises(UserError, match=r"unknown kind of recogniser \(neither kind nor model_type"),
        running_service(folder, tmp_path / "store"),
    ):
        pass
    assert set(marked()) <= before


def test_nothing_to_serve(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "metavox.tar"
    with pytest.raises(UserError, match="no such file"):
        serve(bundle=bundle)
    bundle.write_bytes(b"not a bundle")
    with pytest.raises(UserError, match="not a complete Bento"):
        serve(bundle=bundle)
    with pytest.raises(UserError, match="expected one of them"):
        serve(bundle=bundle, base=str(tmp_path))
    with pytest.raises(UserError, match="expected an IP address"):
        serve(base=str(model_folder), host="example.invalid")
    with pytest.raises(UserError, match="has no folder none"):
        serve(base=str(tmp_path / "none"))
    with pytest.raises(UserError, match="not a complete delta"):
        serve(base=str(model_folder), delta=[tmp_path])
    with pytest.raises(UserError, match="the name 'UPPER' is not allowed"):
        serve(base=str(model_folder), delta=[tmp_path / "UPPER"])
