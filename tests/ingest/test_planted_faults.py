"""Every kind of fault, planted among good recordings: each is reported by name, and no file is unaccounted for.

The generators are in planted/, each fault with the message that is expected.
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
from planted.command import CommandResult, added, metavox, on_a_small_disk, remove, snapshot, web
from planted.fault import EITHER, REFUSE, TAKE
from planted.levels import SOUNDS
from planted.outcome import Planted, check, files_under
from planted.paths import OUTSIDE, PATHS, UNLISTED
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
    [fault.name for fault in (*SOUNDS, *TEXTS, *PATHS, *MEMBERS, *UNLISTED, *UNSAFE)]
    + TWINS
    + list(trees.KNOWN)
)
CUT = "truncated archive"
GOOD = [f"{number}.wav" for number in range(ROWS)]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    root = tmp_path_factory.mktemp("planted")
    tree = Tree(root / "tree")
    tree.folder.mkdir()
    with web() as (address, requests):
        trees.clean(tree)
        trees.sounds(tree)
        trees.texts(tree)
        trees.twins(tree)
        trees.known(tree, trees.corpus(root / "data"))
        trees.paths(tree, root / "outside", address)
        tree.write_manifest()
        before = snapshot(root)
        result = metavox("corpus", "add", tree.folder, "--dry-run", cwd=root)
        yield Planted(tree, result, requests, before, snapshot(root))
    remove(root)


@pytest.mark.parametrize("name", [*NAMED, CUT])
def test_planted_fault_is_found_and_named(planted: Planted, name: str) -> None:
    expected = planted[name]
    path = expected.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    check(
        expected,
        planted.result.accepted.get(path),
        planted.result.refused.get(path),
        path in planted.result.known,
    )


@pytest.mark.parametrize("name", CLEAN)
def test_unusual_recording_is_accepted(planted: Planted, name: str) -> None:
    path = f"good/{name}"
    assert path in planted.result.accepted, planted.result.refused.get(path)


def test_a_dry_run_with_faults_exits_with_zero(planted: Planted) -> None:
    assert planted.result.status == 0, planted.result.output
    assert "Traceback" not in planted.result.output
    assert planted.result.report["faults"] == []
    assert planted.result.report["counts"] == {
        outcome: len(planted.result.report[outcome]) for outcome in ("take", "have", "refuse")
    }


def test_every_row_and_every_file_is_accounted_for_once(planted: Planted) -> None:
    counts = Counter(planted.result.paths)
    assert [path for path, times in counts.items() if times > 1] == []
    rows = {row["path"] for row in planted.tree.rows}
    assert rows - set(counts) == set()
    top = planted.tree.folder
    named = {os.path.normpath(path) for path in rows}
    ignored = 0
    for path in files_under(top):
        if path in named or path in counts or any(other.startswith(path + "/") for other in counts):
            continue
        assert path == "manifest.csv" or path.endswith((".m3u8", ".txt")), f"{path} is not reported"
        ignored += 1
    assert planted.result.report["ignored"] <= ignored


def test_lines_of_the_manifest_are_reported(planted: Planted) -> None:
    lines, number = {}, 2
    for row in planted.tree.rows:
        lines[row["path"]] = number
        number += 1 + sum(value.count("\n") for value in row.values())
    for row in planted.result.report["refuse"]:
        if row["path"] in lines:
            assert row["line"] == lines[row["path"]], row
        else:
            assert row["line"] is None, row


def test_a_dry_run_changes_nothing(planted: Planted) -> None:
    assert planted.after == planted.before


def test_nothing_is_fetched(planted: Planted) -> None:
    assert planted.requests == []


def test_broken_files_need_little_memory(planted: Planted) -> None:
    assert planted.result.peak_mb < 1500


# --- faults of a manifest or a set as a whole


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that no test may change."""
    folder = tmp_path_factory.mktemp("corpus") / "data"
    trees.corpus(folder)
    return folder


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_faulty_manifest(table: Table, data: Path, tmp_path: Path) -> None:
    before = snapshot(data)
    table.make(tmp_path / "tree" / "manifest.csv", recordings(tmp_path / "tree", clips(ROWS, take=8)))
    result = added(tmp_path / "tree", data, "--dry-run")
    assert re.search(table.fault or "^$", result.explained("faults"), re.IGNORECASE), result.report
    assert re.search(table.warning, result.explained("warnings"), re.IGNORECASE), result.report["warnings"]
    assert result.status == (2 if table.fault else 0), result.output
    assert sorted(result.accepted) == [] if table.fault else GOOD
    assert snapshot(data) == before


def test_bad_line_affects_only_itself(data: Path, tmp_path: Path) -> None:
    rows = recordings(tmp_path / "tree", clips(ROWS, take=8))
    patterns = write_lines(tmp_path / "tree" / "manifest.csv", rows)
    result = added(tmp_path / "tree", data, "--dry-run")
    reasons = {row["line"]: "; ".join(row["reasons"]) for row in result.report["refuse"]}
    assert reasons.keys() == patterns.keys(), result.report["refuse"]
    for line, pattern in patterns.items():
        assert re.search(pattern, reasons[line], re.IGNORECASE), line
    assert sorted(result.accepted) == GOOD


def test_speakers_in_two_splits_stop_the_add(data: Path, tmp_path: Path) -> None:
    before = snapshot(data.parent)
    tree = Tree(tmp_path / "tree")
    trees.divided(tree)
    tree.write_manifest()
    result = added(tree.folder, data)
    for name, message in trees.DIVIDED.items():
        assert re.search(message, result.explained("faults")), name
    assert result.status == 2
    assert result.report["version"]["after"] is None
    assert {path: about for path, about in snapshot(data.parent).items() if path.startswith("data")} == before


def test_unbalanced_sets_are_added_with_a_warning(data: Path, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree")
    trees.lopsided(tree)
    tree.write_manifest()
    result = added(tree.folder, data, "--dry-run")
    for name, message in trees.LOPSIDED.items():
        assert re.search(message, result.explained("warnings")), name
    assert (result.status, result.report["faults"], len(result.accepted)) == (0, [], len(tree.rows))


# --- changes during an add


def test_file_that_vanishes_during_the_checks_is_refused_alone(data: Path, tmp_path: Path) -> None:
    tree = trees.tree_of(tmp_path / "tree")

    def vanish(step: str, done: int, total: int) -> None:
        (tree / "5.wav").unlink(missing_ok=True)

    with add(tree, AddOptions(), data, Validate(), True, vanish) as result:
        (refused,) = result.refused()
        assert refused["path"] == "5.wav"
        assert "No such file" in refused["reasons"][0]
        assert result.counts == {"take": 5, "have": 0, "refuse": 1}


def test_file_that_vanishes_before_it_is_stored_leaves_the_corpus_unchanged(
    data: Path, tmp_path: Path
) -> None:
    tree = trees.tree_of(tmp_path / "tree")
    before = snapshot(data)

    def vanish(step: str, done: int, total: int) -> None:
        if step == "storing":
            (tree / "5.wav").unlink(missing_ok=True)

    with pytest.raises(UserError, match=r"5\.wav: can no longer be read"):
        add(tree, AddOptions(), data, Validate(), False, vanish)
    assert snapshot(data) == before


def test_full_disk_leaves_the_corpus_unchanged(tmp_path: Path) -> None:
    if not (before := on_a_small_disk(tmp_path / "disk", tmp_path / "data")):
        pytest.skip("the user may not mount a small disk")
    trees.corpus(tmp_path / "data")
    tree = trees.tree_of(tmp_path / "tree", 12)
    result = metavox("corpus", "add", tree, "--into", "data", cwd=tmp_path, before=before)
    sums = re.findall(r"^[0-9a-f]{32}  .*", result.output, re.MULTILINE)
    assert len(sums) == 4
    assert sums[:2] == sums[2:]
    assert result.status == 2
    assert "Traceback" not in result.output
    assert re.search("disk is full|No space left", result.output)


def test_read_only_corpus_is_left_unchanged(tmp_path: Path) -> None:
    root = tmp_path / "root"
    tree = trees.tree_of(tmp_path / "tree")
    trees.corpus(root / "data")
    for path in (root / "data" / "shards", root / "data", root):
        path.chmod(0o555)
    before = snapshot(root)
    result = metavox("corpus", "add", tree, "--into", root / "data", cwd=tree)
    assert snapshot(root) == before
    remove(root)
    assert result.status == 2, result.output
    assert "Traceback" not in result.output
    assert re.search("permission|cannot be written|read-only", result.output, re.IGNORECASE)


def test_manifest_of_many_lines_is_not_held_in_memory(tmp_path: Path) -> None:
    lines = 20_000
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree/manifest.csv").open("w") as file:
        file.write("path,text,speaker,language,split\n")
        file.writelines(f"none/{line}.wav,word,v,en,train\n" for line in range(lines))
    result = metavox("corpus", "add", "tree", "--dry-run", cwd=tmp_path)
    assert len({row["line"] for row in result.report["refuse"]}) == lines
    assert result.peak_mb < 200, "a row is kept"


# --- faults that are already in a corpus: prepare and validate

FAULTS_OF_THE_SET = {
    "split that is not known",
    "synthetic speech to test with",
    "digest of another recording",
}
# A corpus may refer to outside files.
IN_CORPUS = [
    fault.name
    for fault in (*SOUNDS, *TEXTS, *PATHS, *MEMBERS)
    if OUTSIDE not in fault.message and fault.name not in FAULTS_OF_THE_SET
]


@dataclass(frozen=True)
class Judged:
    result: CommandResult  # prepare
    verdict: Verdict
    reasons: dict[str, str]  # by path


@pytest.fixture(scope="module")
def judged(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """The tree as a corpus, prepared and judged."""
    root = tmp_path_factory.mktemp("pipeline")
    (root / "data").symlink_to(planted.tree.folder)
    params = Params.model_validate({"prepare": {"workers": 1}}).model_dump(mode="json", by_alias=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    result = metavox("stage", "prepare", cwd=root)
    assert result.status == 0, result.output
    verdict = judge(read_manifest(root / "artifacts/prepared/manifest.parquet"), Validate())
    bad = verdict.quarantine
    return Judged(result, verdict, dict(zip(bad["path"], bad["reasons"], strict=True)))


@pytest.mark.parametrize("name", [*IN_CORPUS, *TWINS, CUT])
def test_fault_in_a_corpus_is_quarantined_by_its_name(planted: Planted, judged: Judged, name: str) -> None:
    expected, reasons = planted[name], judged.reasons.get(planted[name].path)
    if reasons is None:
        assert expected.outcome in (TAKE, EITHER)
    elif expected.outcome == "have":
        assert "same recording, text and speaker" in reasons
    else:
        assert expected.outcome in (REFUSE, EITHER), reasons
        assert re.search(expected.message, reasons, re.IGNORECASE), (
            f"expected {expected.message}, got {reasons!r}"
        )


def test_no_row_of_a_corpus_is_lost_and_no_clean_one_quarantined(planted: Planted, judged: Judged) -> None:
    assert [path for path in judged.reasons if path.startswith("good/")] == []
    paths = sorted([*judged.verdict.clean["path"], *judged.verdict.quarantine["path"]])
    assert paths == sorted(row["path"] for row in planted.tree.rows)
    assert {"splits known", "synthetic only in train"} <= {fault.name for fault in judged.verdict.failed}
