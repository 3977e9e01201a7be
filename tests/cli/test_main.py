"""The console script itself: quick help, one-line errors, exit statuses, Ctrl-C, a full disk."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from metavox import __version__
from metavox.cli.main import app
from metavox.params import Params

METAVOX = [sys.executable, "-c", "from metavox.cli.main import main; main()"]


def metavox(
    *arguments: object, cwd: Path, before: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [*(before or []), *METAVOX, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_help_names_the_commands_and_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from metavox.cli.main import app; "
        "print(CliRunner().invoke(app, ['--help']).output); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    *shown, loaded = done.stdout.splitlines()
    assert loaded == "False"
    names = ["corpus", "stage", "doctor", "serve", "fewshot", "adapt", "score", "transcribe", "demo"]
    assert [name for name in names if f"│ {name} " not in "\n".join(shown)] == []


def test_version_and_help_of_a_command_that_is_loaded_late() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"metavox {__version__}\n"
    assert "--bundle" in CliRunner().invoke(app, ["serve", "--help"]).output


@pytest.fixture
def files_to_lose(here: Path) -> None:
    for name in ("a.wav", "a.csv"):
        (here / name).write_text("precious")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nothing"], "No such command 'nothing' (see metavox --help)"),
        (["stage", "prepared"], "stage prepared: no such stage; expected one of prepare, validate, augment,"),
        (["stage", "prepare"], "params.yaml: no such file; run in the project's folder"),
        (["fewshot"], "Missing argument 'MANIFEST' (see metavox fewshot --help)"),
        (["demo"], "artifacts/bundle/metavox.tar: no such file yet; run `make demo`"),
        (["doctor", "--json", "."], ".: is or contains the current folder"),
        (["transcribe", "a.wav", "--out", "a.wav"], "a.wav: is also an input, which would be lost"),
        (["score", "a.csv", "--json", "a.csv"], "a.csv: is also an input, which would be lost"),
        (["fewshot", "a.csv", "--report", "a.csv"], "a.csv: is also an input, which would be lost"),
        (["adapt", "a.csv", "--out", "a.csv/b"], "a.csv/b: cannot be written, because "),
    ],
)
@pytest.mark.usefixtures("files_to_lose")
def test_user_errors_are_one_line(arguments: list[str], line: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"metavox: {line}")
    assert result.stderr.count("\n") == 1


def test_an_unknown_parameter_stops_a_stage_before_it_runs(here: Path) -> None:
    (here / "params.yaml").write_text("seed: 1\nprepare: {worker: 2}\n")
    result = CliRunner().invoke(app, ["stage", "prepare"])
    assert result.exit_code == 2
    assert "unknown key prepare.worker; allowed here: workers" in result.stderr
    elsewhere = here / "other.yaml"
    elsewhere.write_text("seed: 1\n")
    result = CliRunner().invoke(app, ["stage", "prepare", "--params", str(elsewhere)])
    assert "base is missing (and " in result.stderr, "DVC would not see the default"
    elsewhere.write_text(yaml.safe_dump(Params().model_dump(mode="json", by_alias=True)))
    result = CliRunner().invoke(app, ["stage", "prepare", "--params", str(elsewhere)])
    assert "manifest data/manifest.csv: no such file" in result.stderr
    result = CliRunner().invoke(app, ["stage", "adapt", "--params", str(elsewhere)])
    assert result.stderr.startswith("metavox: artifacts/")
    assert result.stderr.count("\n") == 1


def test_an_unwritable_output_is_a_one_line_error(words: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "delta"
    done = metavox("adapt", words, "--out", out, "--base", model, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("file is not a folder; choose another path")
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_without_a_traceback(words: Path, model: str, tmp_path: Path) -> None:
    """The child restores the default handler, because a test run in the background ignores SIGINT."""
    restore_handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    manifest = words.read_text(encoding="utf-8").replace(",one,", ",a long one and another,")
    (tmp_path / "clips").symlink_to(words.parent / "clips")
    (tmp_path / "utterances.csv").write_text(manifest, encoding="utf-8")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{restore_handler}; {METAVOX[-1]}",
            "adapt",
            "utterances.csv",
            "--out",
            "delta",
            "--steps",
            "10000",
            "--base",
            model,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout
    assert "treated as utterances" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "metavox: stopped\n"
    assert not (tmp_path / "delta").exists()


def test_a_full_disk_is_a_one_line_error_and_leaves_no_partial_delta(
    words: Path, model: str, tmp_path: Path
) -> None:
    """The disk is a real file system of 4 kB, mounted in a user namespace."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=4k none {small} && "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    script = f'"$@"; status=$?; ls -A {small}; exit $status'
    before = [*mount, "sh", "-c", script, "sh"]
    done = metavox(
        "adapt",
        words,
        "--kind",
        "utterances",
        "--steps",
        1,
        "--folds",
        0,
        "--base",
        model,
        "--out",
        small / "delta",
        cwd=tmp_path,
        before=before,
    )
    assert done.returncode == 2, done.stderr
    assert f"metavox: the disk is full: 0.0 MB free at {small}; nothing was lost" in done.stderr
    assert "Traceback" not in done.stderr
    assert "delta" not in done.stdout.splitlines()


@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ASCII terminal", "ASCII locale"],
)
def test_characters_that_the_terminal_lacks_are_escaped(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "dát.csv").write_text("file;text\nä.wav;ja\n", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "metavox", "corpus", "report", "dát.csv"],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.decode("ascii").startswith(r"metavox: d\xe1t.csv: no column path among file, text")
