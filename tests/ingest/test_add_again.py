"""Adding is incremental, idempotent and atomic."""

import os
import resource
import signal
import tarfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
from adding import (
    accepted,
    label_folders,
    no_progress,
    record,
    refused,
    run_add,
    table,
    tree_digest,
    video,
)

from metavox.audio.read import decode, read_bytes
from metavox.dataset.manifest import read_manifest
from metavox.dataset.shards import dvc_digest
from metavox.errors import UserError
from metavox.ingest import inspection
from metavox.ingest.writer import lock_corpus

ANNA = {"speaker": "anna", "language": "en"}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "project/data"


def test_recordings_are_stored_byte_for_byte(tmp_path: Path, into: Path) -> None:
    source = tmp_path / "mine"
    originals = [
        record(source / f"yes/{name}", seed)
        for seed, name in enumerate(("a.wav", "b.flac", "c.mp3", "d.ogg"))
    ]
    run_add(source, into, **ANNA)
    rows = read_manifest(into / "manifest.csv")
    assert {read_bytes(into / path) for path in rows["path"]} == {path.read_bytes() for path in originals}
    for row in rows.itertuples():
        samples, rate = decode(read_bytes(into / str(row.path)), str(row.path))
        assert (round(len(samples) / rate, 4), rate) == (row.duration_s, row.sample_rate)
    assert set(rows["source"]) == {"mine"}
    assert rows["path"].is_monotonic_increasing


def test_adding_again_changes_nothing(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine")
    video(source / "yes/clip.mp4", 30)
    first = run_add(source, into, **ANNA)
    assert first["version"] == {"before": "", "after": dvc_digest(into)}
    before = tree_digest(into)
    again = run_add(source, into, **ANNA)
    assert again["counts"] == {"take": 0, "have": 7, "refuse": 0}
    assert again["version"] == {"before": first["version"]["after"], "after": None}
    assert tree_digest(into) == before


def test_only_new_recordings_are_decoded(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = label_folders(tmp_path / "mine")
    video(source / "yes/clip.mp4", 30)
    run_add(source, into, **ANNA)
    record(source / "go/new.wav", 99)
    inspected = []
    real = inspection.inspect_audio
    monkeypatch.setattr(
        inspection,
        "inspect_audio",
        lambda location, **limit: inspected.append(location.name) or real(location, **limit),
    )
    report = run_add(source, into, **ANNA)
    assert [Path(name).name for name in inspected] == ["new.wav"]
    assert list(accepted(report, "text")) == ["go/new.wav"]
    assert sorted(path.name for path in (into / "shards").iterdir()) == ["mine-000.tar", "mine-001.tar"]


def test_the_same_sequence_gives_the_same_bytes(tmp_path: Path) -> None:
    a, b = label_folders(tmp_path / "a"), label_folders(tmp_path / "b", first=100)
    digests = set()
    for name in ("one", "two"):
        into = tmp_path / name / "data"
        run_add(a, into, **ANNA)
        old = tree_digest(into / "shards")
        shard = (into / "shards/a-000.tar").read_bytes()
        digests.add(run_add(b, into, speaker="bert", language="en")["version"]["after"])
        assert (into / "shards/a-000.tar").read_bytes() == shard
        assert old != tree_digest(into / "shards")
        rows = read_manifest(into / "manifest.csv")
        assert rows["path"].is_unique
        assert all(read_bytes(into / path) for path in rows["path"])
    assert len(digests) == 1


def test_two_folders_of_the_same_name_get_their_own_shards(tmp_path: Path, into: Path) -> None:
    run_add(label_folders(tmp_path / "a/clips"), into, **ANNA)
    run_add(label_folders(tmp_path / "b/clips", first=100), into, **ANNA)
    rows = read_manifest(into / "manifest.csv")
    assert len(rows) == 12
    assert {path.split("/")[1] for path in rows["path"]} == {"clips-000.tar", "clips-001.tar"}


def test_rows_of_the_corpus_stay_as_they_are(tmp_path: Path, into: Path) -> None:
    record(into / "clips/old.wav", 1)
    table(
        into / "manifest.csv",
        ["clips/old.wav,yes,anna,en,0.500,kept"],
        "path,text,speaker,language,duration_s,mine",
    )
    report = run_add(label_folders(tmp_path / "mine"), into, **ANNA)
    lines = (into / "manifest.csv").read_text().splitlines()
    assert lines[1].startswith("clips/old.wav,yes,anna,en,0.500,kept")
    # that manifest has no digests, and yet the recording is recognised
    assert report["counts"] == {"take": 5, "have": 1, "refuse": 0}
    assert report["have"] == [{"path": "yes/1.wav"}]


def test_dry_run_changes_nothing(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine")
    run_add(label_folders(tmp_path / "first", first=50), into, **ANNA)
    before = tree_digest(tmp_path)
    planned = run_add(source, into, dry_run=True, **ANNA)
    assert tree_digest(tmp_path) == before
    assert planned["version"]["after"] is None
    done = run_add(source, into, **ANNA)
    assert (planned["take"], planned["refuse"]) == (done["take"], done["refuse"])


def test_the_same_recording_with_another_text_or_speaker_is_refused(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine", each=1)
    run_add(source, into, **ANNA)
    report = run_add(source, into, speaker="bert", language="en")
    assert report["counts"] == {"take": 0, "have": 0, "refuse": 3}
    assert "which is 'yes' by anna" in refused(report)["yes/0.wav"]
    twins = tmp_path / "twins"
    for name, seed in (("a", 70), ("b", 70), ("c", 71), ("d", 71)):
        record(twins / f"{name}.wav", seed)
    rows = ["a.wav,go,carl,en", "b.wav,stay,carl,en", "c.wav,on,carl,en", "d.wav,On!,carl,en"]
    report = run_add(table(twins / "m.csv", rows), into)
    assert set(refused(report)) == {"a.wav", "b.wav"}
    assert list(accepted(report, "text")) == ["c.wav"]
    assert report["have"] == [{"path": "d.wav"}]


def test_a_speaker_keeps_its_split(tmp_path: Path, into: Path) -> None:
    run_add(label_folders(tmp_path / "a"), into, split="test", **ANNA)
    report = run_add(label_folders(tmp_path / "b", first=100), into, **ANNA)
    assert set(accepted(report, "split").values()) == {"test"}
    before = tree_digest(into)
    report = run_add(label_folders(tmp_path / "c", first=200), into, split="train", **ANNA)
    assert [fault["name"] for fault in report["faults"]] == ["speaker on one split"]
    assert "anna" in report["faults"][0]["explanation"]
    rows = [f"{path.relative_to(tmp_path)},no,bert,en,anna,dev" for path in (tmp_path / "c").rglob("*.wav")]
    report = run_add(table(tmp_path / "m.csv", rows, "path,text,speaker,language,speaker_group,split"), into)
    assert [fault["name"] for fault in report["faults"]] == ["speaker group on one split"]
    assert tree_digest(into) == before
    report = run_add(label_folders(tmp_path / "d", first=300), into, speaker="new", language="en")
    assert set(accepted(report, "split").values()) == {"train"}
    assert "new: assigned to train" in report["warnings"][0]["explanation"]


STEPS = 14  # progress reports of the add below; the last ones are the renames


def exit_code_of_fork(run: Callable[[], object]) -> int | None:
    """Run it in a fork of this process, which has imported the package already."""
    process = get_context("fork").Process(target=run)
    process.start()
    process.join()
    return process.exitcode


def exit_code_when_killed(step: int, source: Path, into: Path) -> int | None:
    """Add in a fork, which is killed without warning at a step."""
    steps = iter(range(1000))

    def progress(step_name: str, done: int, total: int) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return exit_code_of_fork(lambda: run_add(source, into, progress=progress, **ANNA))


def test_the_corpus_is_intact_wherever_an_add_is_killed(tmp_path: Path, into: Path) -> None:
    run_add(label_folders(tmp_path / "first", first=50), into, speaker="bert", language="en")
    manifest, before = (into / "manifest.csv").read_bytes(), dvc_digest(into)
    source = label_folders(tmp_path / "mine", each=1)
    expected = run_add(source, tmp_path / "other/data", **ANNA)["take"]
    exit_codes: list[int | None] = []
    for step in range(STEPS):
        exit_codes.append(exit_code_when_killed(step, source, into))
        if exit_codes[-1] == 0 or (into / "manifest.csv").read_bytes() != manifest:
            break
        rows = read_manifest(into / "manifest.csv")
        assert all(read_bytes(into / path) for path in rows["path"])
    assert exit_codes.count(-signal.SIGKILL) >= 6, exit_codes
    done = run_add(source, into, **ANNA)
    assert done["counts"]["have"] == 3  # the last add was killed after the manifest was written, or finished
    assert sorted(path.name for path in (into / "shards").iterdir()) == ["first-000.tar", "mine-000.tar"]
    assert [row["sha256"] for row in expected] == [
        sha256
        for sha256 in read_manifest(into / "manifest.csv")["sha256"]
        if sha256 in {row["sha256"] for row in expected}
    ]
    assert [path.name for path in into.parent.iterdir() if "partial" in path.name] == []
    assert before != dvc_digest(into)


def test_only_the_orphaned_shard_is_removed(tmp_path: Path, into: Path) -> None:
    run_add(label_folders(tmp_path / "first", first=50), into, speaker="bert", language="en")
    source = label_folders(tmp_path / "mine", each=1)
    (into / "shards/precious-000.tar").write_bytes(b"put here by hand")
    manifest = (into / "manifest.csv").read_bytes()
    for step in range(STEPS):
        exit_code_when_killed(step, source, into)
        if (into / "shards/mine-000.tar").exists():
            break
    assert (into / "manifest.csv").read_bytes() == manifest  # killed between the shard and the manifest
    run_add(label_folders(tmp_path / "other", first=70), into, speaker="carl", language="en")
    assert sorted(path.name for path in (into / "shards").iterdir()) == [
        "first-000.tar",
        "other-000.tar",
        "precious-000.tar",
    ]


def test_only_one_add_at_a_time(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine")
    with (
        lock_corpus(into),
        pytest.raises(UserError, match=rf"process {os.getpid()} on .* is adding to it; wait"),
    ):
        run_add(source, into, **ANNA)
    assert run_add(source, into, **ANNA)["counts"]["take"] == 6


def test_a_full_disk_leaves_the_corpus_as_it_was(tmp_path: Path, into: Path) -> None:
    run_add(label_folders(tmp_path / "first", first=50), into, speaker="bert", language="en")
    before = tree_digest(into)
    source = label_folders(tmp_path / "mine", each=8)
    message = tmp_path / "message"

    def add_to_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            run_add(source, into, **ANNA)
        except Exception as error:  # noqa: BLE001 - the assertion below shows any other
            message.write_text(repr(error))

    exit_code_of_fork(add_to_a_full_disk)
    assert "cannot be written (File too large); nothing was added" in message.read_text()
    assert tree_digest(into) == before


def test_a_file_that_changes_during_the_add_is_not_stored(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine", each=1)

    def change(step: str, done: int, total: int) -> None:
        if step == "storing" and done == 1:
            record(source / "yes/0.wav", 1234)

    with pytest.raises(UserError, match=r"yes/0\.wav: changed during the add; nothing was added"):
        run_add(source, into, progress=change, **ANNA)
    assert not into.exists()
    assert run_add(source, into, **ANNA)["counts"]["take"] == 3


def test_a_folder_that_is_not_a_corpus_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.jpg").write_bytes(b"me")
    with pytest.raises(UserError, match="not a corpus, and not empty"):
        run_add(label_folders(tmp_path / "mine"), tmp_path / "photos", **ANNA)


def test_many_recordings_are_inspected_by_a_process_pool(tmp_path: Path, into: Path) -> None:
    source = label_folders(tmp_path / "mine", each=110)
    report = run_add(source, into, progress=no_progress, **ANNA)
    assert report["counts"] == {"take": 330, "have": 0, "refuse": 0}
    with tarfile.open(into / "shards/mine-000.tar") as archive:
        assert len(archive.getnames()) == 330
