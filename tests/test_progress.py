"""Progress is a bar in a terminal, and lines elsewhere."""

import contextlib
import os
import pty
import subprocess
import sys
import time

import pytest

from metavox import progress
from metavox.progress import bar, track


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.05)


def test_lines_are_printed_at_intervals_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(4), "evaluate", unit="episodes"):
        time.sleep(0.06)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert not out
    assert lines[0] == "evaluate: 0 of 4 episodes, 0 s"
    assert lines[-1] == "evaluate: 4 of 4 episodes, 0 s"


def test_lines_are_printed_while_one_item_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("report") as shown:
        time.sleep(0.2)
        shown.advance(note="drawn")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["report: 0 s"] * 2
    assert lines[-1] == "report: 1, drawn, 0 s"


def test_quick_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), "quick", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_the_bar_ends_with_its_work_even_on_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), bar("training", 10, "steps", done=3) as shown:
        shown.advance(2, "loss 1.000")
        raise KeyboardInterrupt
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
    assert str(shown) == "training: 5 of 10 steps, loss 1.000, 0 s"


def read_all(master: int) -> bytes:
    """All that was written to a terminal whose other end is closed."""
    data = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while block := os.read(master, 1 << 16):
            data += block
    os.close(master)
    return data


def test_a_terminal_shows_a_bar() -> None:
    work = "import time; from metavox.progress import track; [time.sleep(0.5) for _ in track('ab', 'steps', unit='x')]"
    master, terminal = pty.openpty()
    with os.fdopen(terminal, "wb") as end:
        subprocess.run(
            [sys.executable, "-c", work], stderr=end, check=True, env={**os.environ, "TERM": "xterm"}
        )
    shown = read_all(master).decode()
    assert "━" in shown
    assert "2/2 x" in shown
