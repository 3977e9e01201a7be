"""The lint of file names refuses generic and private names, and passes this repository."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.file_names import faults

REPO = Path(__file__).parents[1]
INTERFACE = "from typing import Protocol\n\n\nclass Source(Protocol):\n    name: str\n"


def write(root: Path, name: str, text: str = "VALUE = 1\n") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_this_repository_passes() -> None:
    assert list(faults(REPO)) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("src/metavox/audio/utils.py", "fits any content"),
        ("src/metavox/helpers/__init__.py", "fits any content"),
        ("src/metavox/sources/base.py", "fits any content"),
        ("flows/_common.py", "fits any content"),
        ("experiments/hearing.py", "not a term of the field"),
        ("benchmarks/misc.py", "fits any content"),
        ("tests/ingest/places.py", "not a term of the field"),
        ("tests/ingest/test_places.py", "not a term of the field"),
    ],
)
def test_a_refused_name_is_one_line_that_says_why(tmp_path: Path, name: str, reason: str) -> None:
    write(tmp_path, name)
    (line,) = faults(tmp_path)
    assert line.startswith(f"{name}: ")
    assert reason in line
    command = [sys.executable, REPO / "tools" / "file_names.py", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, f"metavox: {line}\n")


def test_base_is_allowed_for_an_interface_alone(tmp_path: Path) -> None:
    write(tmp_path, "src/metavox/sources/base.py", INTERFACE)
    write(tmp_path, "src/metavox/sources/festvox.py")
    write(tmp_path, "docs/utils.py")
    assert list(faults(tmp_path)) == []
    write(tmp_path, "src/metavox/sources/core.py", INTERFACE)
    assert len(list(faults(tmp_path))) == 1
