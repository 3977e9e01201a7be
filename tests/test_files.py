"""Nothing half written ever has its final name, and what was there stays when writing fails."""

import json
from pathlib import Path

import pytest

from metavox.files import write_json, written_aside


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
def test_on_an_error_the_old_one_stays_and_nothing_is_left_beside_it(
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
