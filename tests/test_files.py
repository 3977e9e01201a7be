"""An output gets its final name only when it is complete, and a failed write keeps the old one."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from metavox.errors import UserError
from metavox.files import check_output, write_json, written_aside


def test_a_file_or_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "artifact"
    for content in ("old", "new"):
        with written_aside(target) as aside:
            aside.mkdir()
            (aside / content).touch()
            assert aside.parent == target.parent
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in target.parent.iterdir()] == ["artifact"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_keeps_the_old_one_and_leaves_nothing_beside_it(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "artifact"
    target.write_text("old")

    def fail() -> None:
        with written_aside(target) as aside:
            aside.mkdir()
            (aside / "half").touch()
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_json_is_readable_by_people(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", {"голос": 1.5, "a": None})
    text = (tmp_path / "m.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"голос": 1.5, "a": None}
    assert "голос" in text
    assert text.endswith("}\n")


def test_a_folder_exists_throughout_its_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "artifact"
    target.mkdir()
    (target / "old").touch()
    renamed: list[str] = []
    monkeypatch.setattr(Path, "rename", lambda self, _to: renamed.append(self.name))
    with written_aside(target) as aside:
        aside.mkdir()
        (aside / "new").touch()
    assert [p.name for p in target.iterdir()] == ["new"]
    assert not renamed, "the old folder was moved away before the new one was in its place"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_system_that_cannot_exchange_two_names_renames_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metavox.files._exchange", lambda _one, _other: False)
    test_a_file_or_folder_appears_whole_and_replaces_the_old_one(tmp_path)


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path, exists: bool) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    if exists:
        real.write_text("old")
    link.symlink_to(real)
    with written_aside(link) as aside:
        aside.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [link, real]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_text)
        with written_aside(pipe) as aside:
            aside.write_text("text")
        assert read.result() == "text"
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_device_stays_a_device_and_a_full_one_is_reported() -> None:
    with written_aside(Path("/dev/null")) as aside:
        aside.write_text("gone")
    with pytest.raises(UserError, match=r"/dev/full: cannot be written \(no space left on device\)"):
        write_json(Path("/dev/full"), {})
    assert Path("/dev/null").is_char_device()
    assert Path("/dev/full").is_char_device()


def test_an_error_names_the_target_and_no_hidden_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as raised:
        write_json(tmp_path / "file" / "m.json", {})
    assert str(raised.value).startswith(f"{tmp_path}/file/m.json: cannot be written (")
    assert ".partial" not in str(raised.value)


@pytest.mark.parametrize("name", [".", "..", "../.."])
def test_the_current_folder_is_refused_as_an_output(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is or contains the current folder"):
        check_output(Path(name))


def test_an_output_that_is_an_input_or_lies_in_a_file_is_refused(tmp_path: Path) -> None:
    recording, link = tmp_path / "recording.wav", tmp_path / "same.wav"
    recording.touch()
    link.symlink_to(recording)
    for output in (recording, link):
        with pytest.raises(UserError, match="is also an input"):
            check_output(output, [recording])
    with pytest.raises(UserError, match=r"recording\.wav is not a folder"):
        check_output(recording / "deep" / "new.json")
    check_output(tmp_path / "new" / "deep", [recording])
    assert not (tmp_path / "new").exists()
