"""Adding is incremental, idempotent, and whole or not at all."""

import os
import signal
import subprocess
import sys
import tarfile
from multiprocessing import get_context
from pathlib import Path

import pytest
from bringing import LIMITS, bring, film, folders, quiet, record, refused, state, table, taken

from metavox.audio.read import decode, read_bytes
from metavox.dataset.manifest import read_manifest
from metavox.dataset.shards import dvc_digest
from metavox.errors import UserError
from metavox.ingest import AddOptions, add, sound
from metavox.ingest.writer import locked

MINE = {"speaker": "anna", "language": "en"}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "project/data"


def test_the_bytes_given_are_the_bytes_stored(tmp_path: Path, into: Path) -> None:
    source = tmp_path / "mine"
    given = [
        record(source / f"yes/{name}", seed)
        for seed, name in enumerate(("a.wav", "b.flac", "c.mp3", "d.ogg"))
    ]
    bring(source, into, **MINE)
    rows = read_manifest(into / "manifest.csv")
    assert {read_bytes(into / path) for path in rows["path"]} == {path.read_bytes() for path in given}
    for row in rows.itertuples():
        samples, rate = decode(read_bytes(into / str(row.path)), str(row.path))
        assert (round(len(samples) / rate, 4), rate) == (row.duration_s, row.sample_rate)
    assert set(rows["source"]) == {"mine"}
    assert rows["path"].is_monotonic_increasing


def test_adding_again_changes_nothing(tmp_path: Path, into: Path) -> None:
    source = folders(tmp_path / "mine")
    film(source / "yes/clip.mp4", 30)
    first = bring(source, into, **MINE)
    assert first["version"] == {"before": "", "after": dvc_digest(into)}
    before = state(into)
    again = bring(source, into, **MINE)
    assert again["counts"] == {"take": 0, "have": 7, "refuse": 0}
    assert again["version"] == {"before": first["version"]["after"], "after": None}
    assert state(into) == before


def test_only_what_is_new_is_decoded(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folders(tmp_path / "mine")
    film(source / "yes/clip.mp4", 30)
    bring(source, into, **MINE)
    record(source / "go/new.wav", 99)
    heard = []
    real = sound.examine
    monkeypatch.setattr(
        sound, "examine", lambda place, **limit: heard.append(place.name) or real(place, **limit)
    )
    found = bring(source, into, **MINE)
    assert [Path(name).name for name in heard] == ["new.wav"]
    assert list(taken(found, "text")) == ["go/new.wav"]
    assert sorted(path.name for path in (into / "shards").iterdir()) == ["mine-000.tar", "mine-001.tar"]


def test_the_same_sequence_gives_the_same_bytes(tmp_path: Path) -> None:
    a, b = folders(tmp_path / "a"), folders(tmp_path / "b", first=100)
    digests = set()
    for name in ("one", "two"):
        into = tmp_path / name / "data"
        bring(a, into, **MINE)
        old = state(into / "shards")
        shard = (into / "shards/a-000.tar").read_bytes()
        digests.add(bring(b, into, speaker="bert", language="en")["version"]["after"])
        assert (into / "shards/a-000.tar").read_bytes() == shard
        assert old != state(into / "shards")
        rows = read_manifest(into / "manifest.csv")
        assert rows["path"].is_unique
        assert all(read_bytes(into / path) for path in rows["path"])
    assert len(digests) == 1


def test_two_folders_of_one_name_keep_their_own(tmp_path: Path, into: Path) -> None:
    bring(folders(tmp_path / "a/clips"), into, **MINE)
    bring(folders(tmp_path / "b/clips", first=100), into, **MINE)
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
    found = bring(folders(tmp_path / "mine"), into, **MINE)
    lines = (into / "manifest.csv").read_text().splitlines()
    assert lines[1].startswith("clips/old.wav,yes,anna,en,0.500,kept")
    # no digest stands in that manifest, and still the recording is known
    assert found["counts"] == {"take": 5, "have": 1, "refuse": 0}
    assert found["have"] == [{"path": "yes/1.wav"}]


def test_dry_run_changes_nothing(tmp_path: Path, into: Path) -> None:
    source = folders(tmp_path / "mine")
    bring(folders(tmp_path / "first", first=50), into, **MINE)
    before = state(tmp_path)
    planned = bring(source, into, dry_run=True, **MINE)
    assert state(tmp_path) == before
    assert planned["version"]["after"] is None
    done = bring(source, into, **MINE)
    assert (planned["take"], planned["refuse"]) == (done["take"], done["refuse"])


def test_other_words_for_the_same_recording(tmp_path: Path, into: Path) -> None:
    source = folders(tmp_path / "mine", each=1)
    bring(source, into, **MINE)
    found = bring(source, into, speaker="bert", language="en")
    assert found["counts"] == {"take": 0, "have": 0, "refuse": 3}
    assert "which is 'yes' by anna" in refused(found)["yes/0.wav"]
    twins = tmp_path / "twins"
    for name, seed in (("a", 70), ("b", 70), ("c", 71), ("d", 71)):
        record(twins / f"{name}.wav", seed)
    rows = ["a.wav,go,carl,en", "b.wav,stay,carl,en", "c.wav,on,carl,en", "d.wav,On!,carl,en"]
    found = bring(table(twins / "m.csv", rows), into)
    assert set(refused(found)) == {"a.wav", "b.wav"}
    assert list(taken(found, "text")) == ["c.wav"]
    assert found["have"] == [{"path": "d.wav"}]


def test_a_speaker_keeps_its_side(tmp_path: Path, into: Path) -> None:
    bring(folders(tmp_path / "a"), into, split="test", **MINE)
    found = bring(folders(tmp_path / "b", first=100), into, **MINE)
    assert set(taken(found, "split").values()) == {"test"}
    before = state(into)
    found = bring(folders(tmp_path / "c", first=200), into, split="train", **MINE)
    assert [fault["name"] for fault in found["faults"]] == ["speaker on one split"]
    assert "anna" in found["faults"][0]["explanation"]
    rows = [f"{path.relative_to(tmp_path)},no,bert,en,anna,dev" for path in (tmp_path / "c").rglob("*.wav")]
    found = bring(table(tmp_path / "m.csv", rows, "path,text,speaker,language,speaker_group,split"), into)
    assert [fault["name"] for fault in found["faults"]] == ["speaker group on one split"]
    assert state(into) == before
    found = bring(folders(tmp_path / "d", first=300), into, speaker="new", language="en")
    assert set(taken(found, "split").values()) == {"train"}
    assert "new: put in train" in found["warnings"][0]["explanation"]


STEPS = 14  # told steps of the add below; the last ones are the renaming


def killed_at(step: int, source: Path, into: Path) -> None:
    """Add in a process of its own and kill it without warning at a step."""
    steps = iter(range(1000))

    def progress(what: str, done: int, total: int) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with add(source, AddOptions(**MINE), into, LIMITS, False, progress):
        pass


def exit_code_when_killed(step: int, source: Path, into: Path) -> int | None:
    """Run `killed_at` in a fork of a clean process that has imported the package already."""
    context = get_context("fork")  # a process of its own that need not import everything again
    process = context.Process(target=killed_at, args=(step, source, into))
    process.start()
    process.join()
    return process.exitcode


def test_killed_at_any_step_the_corpus_is_whole(tmp_path: Path, into: Path) -> None:
    bring(folders(tmp_path / "first", first=50), into, speaker="bert", language="en")
    manifest, whole = (into / "manifest.csv").read_bytes(), dvc_digest(into)
    source = folders(tmp_path / "mine", each=1)
    expected = bring(source, tmp_path / "other/data", **MINE)["take"]
    ended: list[int | None] = []
    for step in range(STEPS):
        ended.append(exit_code_when_killed(step, source, into))
        if ended[-1] == 0 or (into / "manifest.csv").read_bytes() != manifest:
            break
        rows = read_manifest(into / "manifest.csv")
        assert all(read_bytes(into / path) for path in rows["path"])
    assert ended.count(-signal.SIGKILL) >= 6, ended
    done = bring(source, into, **MINE)
    assert done["counts"]["have"] == 3  # the last one was killed after the manifest, or got through
    assert sorted(path.name for path in (into / "shards").iterdir()) == ["first-000.tar", "mine-000.tar"]
    assert [row["sha256"] for row in expected] == [
        sha256
        for sha256 in read_manifest(into / "manifest.csv")["sha256"]
        if sha256 in {row["sha256"] for row in expected}
    ]
    assert [path.name for path in into.parent.iterdir() if "partial" in path.name] == []
    assert whole != dvc_digest(into)


def test_an_orphan_is_removed_and_nothing_else(tmp_path: Path, into: Path) -> None:
    bring(folders(tmp_path / "first", first=50), into, speaker="bert", language="en")
    source = folders(tmp_path / "mine", each=1)
    (into / "shards/precious-000.tar").write_bytes(b"put here by hand")
    manifest = (into / "manifest.csv").read_bytes()
    for step in range(STEPS):
        exit_code_when_killed(step, source, into)
        if (into / "shards/mine-000.tar").exists():
            break
    assert (into / "manifest.csv").read_bytes() == manifest  # killed between the shard and the manifest
    bring(folders(tmp_path / "other", first=70), into, speaker="carl", language="en")
    assert sorted(path.name for path in (into / "shards").iterdir()) == [
        "first-000.tar",
        "other-000.tar",
        "precious-000.tar",
    ]


def test_one_at_a_time(tmp_path: Path, into: Path) -> None:
    source = folders(tmp_path / "mine")
    with locked(into), pytest.raises(UserError, match=rf"process {os.getpid()} on .* is adding to it; wait"):
        bring(source, into, **MINE)
    assert bring(source, into, **MINE)["counts"]["take"] == 6


def test_a_full_disk_leaves_the_corpus_as_it_was(tmp_path: Path, into: Path) -> None:
    bring(folders(tmp_path / "first", first=50), into, speaker="bert", language="en")
    before = state(into)
    source = folders(tmp_path / "mine", each=8)
    code = (
        "import resource, sys; from bringing import bring; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "bring(Path(sys.argv[1]), Path(sys.argv[2]), speaker='anna', language='en')\n"
    )
    command = [sys.executable, "-c", code, str(source), str(into)]
    ran = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert "cannot be written (File too large); it is what it was" in ran.stderr
    assert state(into) == before


def test_a_file_that_changes_meanwhile_is_not_stored(tmp_path: Path, into: Path) -> None:
    source = folders(tmp_path / "mine", each=1)

    def change(what: str, done: int, total: int) -> None:
        if what == "storing" and done == 1:
            record(source / "yes/0.wav", 1234)

    with pytest.raises(UserError, match=r"yes/0\.wav: changed while it was added; nothing was added"):
        bring(source, into, progress=change, **MINE)
    assert not into.exists()
    assert bring(source, into, **MINE)["counts"]["take"] == 3


def test_what_is_no_corpus_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.jpg").write_bytes(b"me")
    with pytest.raises(UserError, match="holds something that is no corpus"):
        bring(folders(tmp_path / "mine"), tmp_path / "photos", **MINE)


def test_many_recordings_are_heard_by_processes(tmp_path: Path, into: Path) -> None:
    source = folders(tmp_path / "mine", each=110)
    found = bring(source, into, progress=quiet, **MINE)
    assert found["counts"] == {"take": 330, "have": 0, "refuse": 0}
    with tarfile.open(into / "shards/mine-000.tar") as archive:
        assert len(archive.getnames()) == 330
