"""Everything that can be wrong with recordings, planted among good ones: each is found and named, none is lost.

The generators are in planted/, each fault with what is to be said of it.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from planted import trees
from planted.archives import MEMBERS, UNSAFE
from planted.clean import CLEAN
from planted.clips import clips
from planted.fault import EITHER, REFUSE, TAKE
from planted.levels import SOUNDS
from planted.outcome import Planted, check, files_under
from planted.paths import OUT, PLACES, UNLISTED
from planted.running import Ran, added, metavox, on_a_small_disk, remove, snapshot, web
from planted.tables import ROWS, TABLES, Table, recordings, write_lines
from planted.texts import TEXTS
from planted.trees import Tree

from metavox.dataset.manifest import read_manifest
from metavox.errors import UserError
from metavox.ingest import AddOptions, add
from metavox.params import Params, Validate
from metavox.quality import Verdict, judge

TWINS = [f"{name}, {side}" for name in trees.TWINS for side in "ab"] + [
    "recording twice, a",
    "recording twice, b",
]
NAMED = (
    [fault.name for fault in (*SOUNDS, *TEXTS, *PLACES, *MEMBERS, *UNLISTED, *UNSAFE)]
    + TWINS
    + list(trees.KNOWN)
)
CUT = "archive that is cut"
GOOD = [f"{number}.wav" for number in range(ROWS)]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    root = tmp_path_factory.mktemp("planted")
    tree = Tree(root / "tree")
    tree.folder.mkdir()
    with web() as (address, calls):
        trees.clean(tree)
        trees.sounds(tree)
        trees.texts(tree)
        trees.twins(tree)
        trees.known(tree, trees.corpus(root / "data"))
        trees.places(tree, root / "outside", address)
        tree.write_manifest()
        before = snapshot(root)
        ran = metavox("corpus", "add", tree.folder, "--dry-run", cwd=root)
        yield Planted(tree, ran, calls, before, snapshot(root))
    remove(root)


@pytest.mark.parametrize("name", [*NAMED, CUT])
def test_planted_fault_is_found_and_named(planted: Planted, name: str) -> None:
    expected = planted[name]
    path = expected.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    check(expected, planted.ran.taken.get(path), planted.ran.refused.get(path), path in planted.ran.had)


@pytest.mark.parametrize("name", CLEAN)
def test_recording_that_is_only_unusual_is_taken(planted: Planted, name: str) -> None:
    path = f"good/{name}"
    assert path in planted.ran.taken, planted.ran.refused.get(path)


def test_a_dry_run_with_faults_ends_well(planted: Planted) -> None:
    assert planted.ran.status == 0, planted.ran.said
    assert "Traceback" not in planted.ran.said
    assert planted.ran.told["faults"] == []
    assert planted.ran.told["counts"] == {
        outcome: len(planted.ran.told[outcome]) for outcome in ("take", "have", "refuse")
    }


def test_every_row_and_every_file_is_accounted_for_once(planted: Planted) -> None:
    told = Counter(planted.ran.paths)
    assert [path for path, times in told.items() if times > 1] == []
    rows = {row["path"] for row in planted.tree.rows}
    assert rows - set(told) == set()
    top = planted.tree.folder
    named = {os.path.normpath(path) for path in rows}
    ignored = 0
    for path in files_under(top):
        if path in named or path in told or any(other.startswith(path + "/") for other in told):
            continue
        assert path == "manifest.csv" or path.endswith((".m3u8", ".txt")), f"nothing is said of {path}"
        ignored += 1
    assert planted.ran.told["ignored"] <= ignored


def test_lines_of_the_manifest_are_told(planted: Planted) -> None:
    lines, number = {}, 2
    for row in planted.tree.rows:
        lines[row["path"]] = number
        number += 1 + sum(value.count("\n") for value in row.values())
    for row in planted.ran.told["refuse"]:
        if row["path"] in lines:
            assert row["line"] == lines[row["path"]], row
        else:
            assert row["line"] is None, row


def test_a_dry_run_changes_nothing(planted: Planted) -> None:
    assert planted.after == planted.before


def test_nothing_is_fetched(planted: Planted) -> None:
    assert planted.calls == []


def test_what_is_broken_takes_little_memory(planted: Planted) -> None:
    assert planted.ran.peak_mb < 1500


# --- faults of a whole manifest, a whole set


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus; none of these may change it."""
    folder = tmp_path_factory.mktemp("corpus") / "data"
    trees.corpus(folder)
    return folder


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_manifest_that_is_not_as_it_should_be(table: Table, data: Path, tmp_path: Path) -> None:
    before = snapshot(data)
    table.make(tmp_path / "tree" / "manifest.csv", recordings(tmp_path / "tree", clips(ROWS, take=8)))
    ran = added(tmp_path / "tree", data, "--dry-run")
    assert re.search(table.fault or "^$", ran.explained("faults"), re.IGNORECASE), ran.told
    assert re.search(table.warning, ran.explained("warnings"), re.IGNORECASE), ran.told["warnings"]
    assert ran.status == (2 if table.fault else 0), ran.said
    assert sorted(ran.taken) == [] if table.fault else GOOD
    assert snapshot(data) == before


def test_bad_line_costs_itself_and_no_other(data: Path, tmp_path: Path) -> None:
    rows = recordings(tmp_path / "tree", clips(ROWS, take=8))
    told = write_lines(tmp_path / "tree" / "manifest.csv", rows)
    ran = added(tmp_path / "tree", data, "--dry-run")
    reasons = {row["line"]: "; ".join(row["reasons"]) for row in ran.told["refuse"]}
    assert reasons.keys() == told.keys(), ran.told["refuse"]
    for line, pattern in told.items():
        assert re.search(pattern, reasons[line], re.IGNORECASE), line
    assert sorted(ran.taken) == GOOD


def test_people_on_two_sides_stop_the_whole(data: Path, tmp_path: Path) -> None:
    before = snapshot(data.parent)
    tree = Tree(tmp_path / "tree")
    trees.divided(tree)
    tree.write_manifest()
    ran = added(tree.folder, data)
    for name, told in trees.DIVIDED.items():
        assert re.search(told, ran.explained("faults")), name
    assert ran.status == 2
    assert ran.told["version"]["after"] is None
    assert {path: about for path, about in snapshot(data.parent).items() if path.startswith("data")} == before


def test_lopsided_sets_are_taken_with_a_warning(data: Path, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree")
    trees.lopsided(tree)
    tree.write_manifest()
    ran = added(tree.folder, data, "--dry-run")
    for name, told in trees.LOPSIDED.items():
        assert re.search(told, ran.explained("warnings")), name
    assert (ran.status, ran.told["faults"], len(ran.taken)) == (0, [], len(tree.rows))


# --- while it is at work


def test_file_that_vanishes_while_others_are_heard_is_refused_alone(data: Path, tmp_path: Path) -> None:
    tree = trees.grown(tmp_path / "tree")

    def vanish(what: str, done: int, total: int) -> None:
        (tree / "5.wav").unlink(missing_ok=True)

    with add(tree, AddOptions(), data, Validate(), True, vanish) as told:
        (refused,) = told.refuse()
        assert refused["path"] == "5.wav"
        assert "No such file" in refused["reasons"][0]
        assert told.counts == {"take": 5, "have": 0, "refuse": 1}


def test_file_that_vanishes_before_it_is_stored_leaves_the_corpus_as_it_was(
    data: Path, tmp_path: Path
) -> None:
    tree = trees.grown(tmp_path / "tree")
    before = snapshot(data)

    def vanish(what: str, done: int, total: int) -> None:
        if what == "storing":
            (tree / "5.wav").unlink(missing_ok=True)

    with pytest.raises(UserError, match=r"5\.wav: cannot be read any more"):
        add(tree, AddOptions(), data, Validate(), False, vanish)
    assert snapshot(data) == before


def test_full_disk_leaves_the_corpus_as_it_was(tmp_path: Path) -> None:
    if not (before := on_a_small_disk(tmp_path / "disk", tmp_path / "data")):
        pytest.skip("who runs the tests may not mount a small disk")
    trees.corpus(tmp_path / "data")
    tree = trees.grown(tmp_path / "tree", 12)
    ran = metavox("corpus", "add", tree, "--into", "data", cwd=tmp_path, before=before)
    sums = re.findall(r"^[0-9a-f]{32}  .*", ran.said, re.MULTILINE)
    assert len(sums) == 4
    assert sums[:2] == sums[2:]
    assert ran.status == 2
    assert "Traceback" not in ran.said
    assert re.search("disk is full|No space left", ran.said)


def test_corpus_that_may_not_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "root"
    tree = trees.grown(tmp_path / "tree")
    trees.corpus(root / "data")
    for path in (root / "data" / "shards", root / "data", root):
        path.chmod(0o555)
    before = snapshot(root)
    ran = metavox("corpus", "add", tree, "--into", root / "data", cwd=tree)
    assert snapshot(root) == before
    remove(root)
    assert ran.status == 2, ran.said
    assert "Traceback" not in ran.said
    assert re.search("permission|cannot be written|read-only", ran.said, re.IGNORECASE)


def test_manifest_of_many_lines_is_not_held_in_memory(tmp_path: Path) -> None:
    lines = 20_000
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/manifest.csv").open("w") as file:
        file.write("path,text,speaker,language,split\n")
        file.writelines(f"none/{line}.wav,word,v,en,train\n" for line in range(lines))
    ran = metavox("corpus", "add", "tree", "--dry-run", cwd=tmp_path)
    assert len({row["line"] for row in ran.told["refuse"]}) == lines
    assert ran.peak_mb < 200, "a row is kept"


# --- in a corpus already: prepare and validate

OF_THE_WHOLE = {"split that is not known", "synthetic speech to test with", "digest of another recording"}
IN_CORPUS = [
    fault.name
    for fault in (*SOUNDS, *TEXTS, *PLACES, *MEMBERS)
    if OUT not in fault.told and fault.name not in OF_THE_WHOLE  # a corpus may refer to what is outside
]


@dataclass(frozen=True)
class Judged:
    ran: Ran  # prepare
    verdict: Verdict
    reasons: dict[str, str]  # by path


@pytest.fixture(scope="module")
def judged(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A corpus that holds all of the tree, prepared and judged."""
    root = tmp_path_factory.mktemp("pipeline")
    (root / "data").symlink_to(planted.tree.folder)
    params = Params.model_validate({"prepare": {"workers": 1}}).model_dump(mode="json", by_alias=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    ran = metavox("stage", "prepare", cwd=root)
    assert ran.status == 0, ran.said
    verdict = judge(read_manifest(root / "artifacts/prepared/manifest.parquet"), Validate())
    bad = verdict.quarantine
    return Judged(ran, verdict, dict(zip(bad["path"], bad["reasons"], strict=True)))


@pytest.mark.parametrize("name", [*IN_CORPUS, *TWINS, CUT])
def test_fault_in_a_corpus_is_quarantined_by_its_name(planted: Planted, judged: Judged, name: str) -> None:
    expected, reasons = planted[name], judged.reasons.get(planted[name].path)
    if reasons is None:
        assert expected.outcome in (TAKE, EITHER)
    elif expected.outcome == "have":
        assert "same recording, text and speaker" in reasons
    else:
        assert expected.outcome in (REFUSE, EITHER), reasons
        assert re.search(expected.told, reasons, re.IGNORECASE), (
            f"expected {expected.told}, was told {reasons!r}"
        )


def test_no_row_of_a_corpus_is_lost_and_no_clean_one_quarantined(planted: Planted, judged: Judged) -> None:
    assert [path for path in judged.reasons if path.startswith("good/")] == []
    paths = sorted([*judged.verdict.clean["path"], *judged.verdict.quarantine["path"]])
    assert paths == sorted(row["path"] for row in planted.tree.rows)
    assert {"splits known", "synthetic only in train"} <= {fault.name for fault in judged.verdict.failed}
