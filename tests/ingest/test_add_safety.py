"""Hostile, broken and unusual input: nothing outside is read, every file is accounted for, and the rest is added."""

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest
from adding import accepted, label_folders, record, refused, run_add, table


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_links_pipes_and_sockets(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine", each=1)
    secret = record(tmp_path / "secret/s.wav", 90)
    (source / "yes/out.wav").symlink_to(secret)
    (source / "yes/nothing.wav").symlink_to(source / "gone.wav")
    (source / "linked").symlink_to(secret.parent)
    (source / "yes/loop").symlink_to(source)
    (source / "yes/again.wav").symlink_to(source / "yes/0.wav")
    os.mkfifo(source / "yes/pipe.wav")
    with socket.socket(socket.AF_UNIX) as unix_socket:
        unix_socket.bind(str(source / "s.wav"))
    report = run_add(source, into, layout="folders", speaker="anna", language="en")
    assert set(accepted(report, "text").values()) == {"yes", "no", "stop"}
    assert len(report["have"]) == 1  # a link inside the folder is the same recording
    reasons = refused(report)
    assert "points outside" in reasons["yes/out.wav"]
    assert "points outside" in reasons["linked"]
    assert reasons["yes/nothing.wav"] == "a dangling link"
    assert "not a regular file" in reasons["yes/pipe.wav"]
    assert "not a regular file" in reasons["s.wav"]
    report = run_add(source, into, layout="folders", speaker="anna", language="en", allow_outside=True)
    reasons = refused(report)
    assert reasons["yes/out.wav"] == "same recording as linked/s.wav under another text or speaker"
    assert reasons["linked/s.wav"] == "same recording as yes/out.wav under another text or speaker"


def add_member(archive: tarfile.TarFile, name: str, data: bytes = b"", **changed: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changed.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


def hostile(path: Path, sound: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        add_member(archive, "./yes/a.wav", sound)
        add_member(archive, "../no/evil.wav", sound)
        add_member(archive, "/no/absolute.wav", sound)
        add_member(archive, "no/link.wav", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add_member(archive, "no/hard.wav", type=tarfile.LNKTYPE, linkname="yes/a.wav")
        add_member(archive, "no/device.wav", type=tarfile.CHRTYPE)
        add_member(archive, "yes/a.wav", sound)
    return path


def test_archives(tmp_path: Path, into: Path) -> None:
    sound = record(tmp_path / "a.wav", 1).read_bytes()
    report = run_add(hostile(tmp_path / "words.tar", sound), into, speaker="anna", language="en")
    assert accepted(report, "text") == {"yes/a.wav": "yes"}
    reasons = refused(report)
    assert set(reasons) == {
        "../no/evil.wav",
        "/no/absolute.wav",
        "no/link.wav",
        "no/hard.wav",
        "no/device.wav",
        "yes/a.wav",
    }
    assert "leads outside the archive" in reasons["../no/evil.wav"]
    assert "leads outside the archive" in reasons["/no/absolute.wav"]
    assert not (tmp_path / "no").exists()


def test_archives_inside_a_folder(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine", each=1)
    sound = record(tmp_path / "a.wav", 1000).read_bytes()
    with tarfile.open(source / "more.tar", "w") as archive:
        add_member(archive, "go/a.wav", sound)
    (source / "broken.tar").write_bytes(b"no tar")
    (source / "yes/packed.zip").write_bytes(b"PK")
    report = run_add(source, into, speaker="anna", language="en")
    assert accepted(report, "text")["more.tar/go/a.wav"] == "go"
    assert "not a tar" in refused(report)["broken.tar"]
    assert "unpack it first" in refused(report)["yes/packed.zip"]
    rows = table(tmp_path / "mine/rows.csv", ["more.tar/go/a.wav,go,bert,en", "more.tar/none.wav,go,bert,en"])
    report = run_add(rows, tmp_path / "other")
    assert accepted(report, "speaker") == {"more.tar/go/a.wav": "bert"}


def test_names_that_are_not_utf8(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine", each=1)
    os.rename(source / "no/0.wav", os.fsencode(source / "no") + b"/\xff.wav")
    report = run_add(source, into, speaker="anna", language="en")
    assert refused(report) == {"no/\\xff.wav": "its name is not UTF-8; rename it"}


def test_broken_files_do_not_stop_the_others(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine", each=1)
    intact = (source / "yes/0.wav").read_bytes()
    for name, data in (
        ("empty.wav", b""),
        ("noise.wav", b"\xff" * 999),
        ("head.wav", intact[:44]),
        ("text.mp3", b"hello"),
    ):
        (source / "no" / name).write_bytes(data)
    (source / "no/unknown.xyz").write_bytes(b"what is this")
    (source / "no/no_suffix").write_bytes(record(tmp_path / "x.wav", 1001).read_bytes())
    report = run_add(source, into, speaker="anna", language="en")
    assert set(accepted(report, "text")) == {"yes/0.wav", "no/0.wav", "stop/0.wav", "no/no_suffix"}
    assert set(refused(report)) == {"no/empty.wav", "no/noise.wav", "no/head.wav", "no/text.mp3"}
    assert report["ignored"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_read_permission_are_named(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine", each=1)
    (source / "no/0.wav").chmod(0)
    (source / "stop").chmod(0)
    try:
        reasons = refused(run_add(source, into, speaker="anna", language="en"))
    finally:
        (source / "stop").chmod(0o755)
    assert "Permission denied" in reasons["no/0.wav"]
    assert "Permission denied" in reasons["stop/"]


@pytest.mark.parametrize("name", ["asterisk", "espeak", "..."])
def test_the_name_of_a_built_source_is_refused(tmp_path: Path, into: Path, name: str) -> None:
    report = run_add(label_folders(tmp_path / "mine"), into, speaker="anna", language="en", name=name)
    assert report["faults"][0]["name"] == "name"
    assert not into.exists()


def test_a_source_with_nothing_to_add(tmp_path: Path, into: Path) -> None:
    assert run_add(tmp_path / "gone", into)["faults"][0]["name"] == "no such path"
    (tmp_path / "empty").mkdir()
    assert "holds no audio" in run_add(tmp_path / "empty", into)["faults"][0]["explanation"]
    report = run_add(label_folders(tmp_path / "mine"), into, language="en")
    assert report["faults"] == [
        {
            "name": "no speaker",
            "explanation": "no recording has a speaker; add --speaker NAME to set it for all of them",
        }
    ]
