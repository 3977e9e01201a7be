"""Folders in place of a manifest: `corpus add` and the learning commands detect the same layout, and print it."""

import os
from pathlib import Path

import pytest
from adding import accepted, label_folders, record, refused, run_add, table

from metavox.dataset.manifest import read_manifest
from metavox.errors import UserError
from metavox.ingest.labelled import read_labelled


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "data"


def labels_of(folder: Path) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """(text and speaker of each recording by its name in `folder`, the lines printed)."""
    lines: list[str] = []
    rows = read_labelled(folder, lines.append)
    assert all(Path(path).is_file() for path in rows["path"])
    names = [Path(path).relative_to(folder).as_posix() for path in rows["path"]]
    return dict(zip(names, zip(rows["text"], rows["speaker"], strict=True), strict=True)), lines


def of_speakers(root: Path) -> dict[str, tuple[str, str]]:
    expected = {}
    for number, (speaker, word) in enumerate((v, w) for v in ("anna", "bert") for w in ("yes", "no")):
        record(root / speaker / word / "1.wav", number)
        expected[f"{speaker}/{word}/1.wav"] = (word, speaker)
    return expected


def flat(root: Path) -> dict[str, tuple[str, str]]:
    expected = {}
    for number, (speaker, word) in enumerate(
        (v, w) for v in ("anna", "bert") for w in ("lights-on", "music")
    ):
        record(root / f"{speaker}_{word}_01.wav", number)
        expected[f"{speaker}_{word}_01.wav"] = (word, speaker)
    return expected


def beside_their_text(root: Path) -> dict[str, tuple[str, str]]:
    record(root / "anna/1.wav", 1)
    record(root / "bert/1.wav", 2)
    (root / "anna/1.txt").write_text("go\non\n")
    (root / "bert/1.lab").write_text("schön", encoding="cp1252")
    return {"anna/1.wav": ("go on", "anna"), "bert/1.wav": ("schön", "bert")}


LAYOUTS = {
    of_speakers: "filename-pattern (as --pattern '{speaker}/{text}/{}': anna/no/1.wav is 'no' by anna)",
    flat: "filename-pattern (as --pattern '{speaker}_{text}_{}': anna_lights-on_01.wav is 'lights-on' by anna)",
    beside_their_text: "transcripts (each recording beside its text, as anna/1.wav)",
}


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_all_commands_read_a_folder_alike(make, tmp_path: Path, into: Path) -> None:  # type: ignore[no-untyped-def]
    expected = make(tmp_path / "mine")
    report = run_add(tmp_path / "mine", into, dry_run=True, language="en")
    assert accepted(report, "text", "speaker") == expected
    assert (report["layout"], report["ignored"]) == (LAYOUTS[make], 0)
    rows, lines = labels_of(tmp_path / "mine")
    assert rows == expected
    assert lines == [f"{tmp_path / 'mine'}: {len(expected)} recordings, read as {LAYOUTS[make]}"]


def test_options_override_a_detected_speaker(tmp_path: Path, into: Path) -> None:
    of_speakers(tmp_path / "mine")
    report = run_add(tmp_path / "mine", into, dry_run=True, language="en", speaker="carl")
    assert set(accepted(report, "text", "speaker").values()) == {("yes", "carl"), ("no", "carl")}
    beside_their_text(tmp_path / "spoken")
    report = run_add(tmp_path / "spoken", into, dry_run=True, language="en", speaker="carl")
    assert {speaker for _, speaker in accepted(report, "text", "speaker").values()} == {"carl"}


def test_a_recording_without_a_text_is_refused_alone(tmp_path: Path, into: Path) -> None:
    root = tmp_path / "mine"
    beside_their_text(root)
    record(root / "anna/2.wav", 3)
    record(root / "anna/3.wav", 4)
    (root / "anna/3.txt").write_bytes("привет".encode("cp1251"))
    record(root / "anna/4.wav", 5)
    (root / "anna/4.txt").write_text("yes")
    report = run_add(root, into, dry_run=True, language="en")
    assert list(refused(report)) == ["anna/2.wav", "anna/3.wav"]
    assert refused(report)["anna/2.wav"].startswith("no text: ")
    assert refused(report)["anna/3.wav"] == "3.txt: byte 0 on line 1 is not UTF-8; save it as UTF-8"
    rows, lines = labels_of(root)
    assert len(rows) == 3
    assert "2 of 5 recordings are left out; the first: anna/2.wav: no text" in lines[0]


def test_a_folder_for_each_label_and_a_folder_with_a_table(tmp_path: Path) -> None:
    labels = label_folders(tmp_path / "labels")
    assert {text for text, _ in labels_of(labels)[0].values()} == {"yes", "no", "stop"}
    record(tmp_path / "listed/clips/a.wav", 1)
    table(tmp_path / "listed/words.csv", ["clips\\a.wav;yes;anna;en"], "Path; Text ;SPEAKER;language")
    assert labels_of(tmp_path / "listed")[0] == {"clips/a.wav": ("yes", "anna")}


def test_a_folder_of_unknown_layout_is_a_one_line_error(tmp_path: Path) -> None:
    record(tmp_path / "mine/a.wav", 1)
    with pytest.raises(
        UserError, match="its layout cannot be detected; expected a table path,text"
    ) as caught:
        read_labelled(tmp_path / "mine")
    assert "--" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no audio"):
        read_labelled(tmp_path / "empty")


def test_a_name_that_is_not_utf8_affects_only_itself(tmp_path: Path) -> None:
    root = label_folders(tmp_path / "mine", each=1)
    bad = os.fsdecode(os.fsencode(root / "yes/") + b"/\xff.wav")
    os.link(root / "yes/0.wav", bad)
    rows, lines = labels_of(root)
    assert sorted(rows) == ["no/0.wav", "stop/0.wav", "yes/0.wav"]
    assert lines[0].endswith("the first: yes/\\xff.wav: its name is not UTF-8; rename it")


@pytest.mark.parametrize("name", ["loop", "loop.csv"])
def test_a_link_to_itself_is_one_fault(tmp_path: Path, into: Path, name: str) -> None:
    (tmp_path / name).symlink_to(name)
    (fault,) = run_add(tmp_path / name, into)["faults"]
    assert fault["explanation"] == f"{tmp_path / name}: a symbolic link that leads back to itself"
    with pytest.raises(UserError, match="no such file"):
        read_manifest(tmp_path / name)


def test_a_folder_whose_name_is_not_utf8_is_one_fault(tmp_path: Path, into: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    root.mkdir()
    (fault,) = run_add(root, into)["faults"]
    assert "bad\\xff: the name is not UTF-8" in fault["explanation"]
