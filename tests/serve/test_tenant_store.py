"""The store holds only complete deltas, whatever happens."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from metavox.errors import UserError
from metavox.recognisers.delta import Delta, Vocabulary
from metavox.serve.store import NameTaken, NoSuchName, Store


def words(*names: str) -> Delta:
    vocabulary = Vocabulary("embedder", names, torch.ones(len(names), 4))
    return Delta("base", vocabulary=vocabulary, about={"kind": "words"})


def test_a_saved_delta_is_read_back_by_another_store(tmp_path: Path) -> None:
    assert Store(tmp_path).save("vocabularies", "a", words("yes", "no")).new
    delta, _ = Store(tmp_path).load("vocabularies", "a")
    assert delta.words == ("yes", "no")
    assert Store(tmp_path).kind_of("a") == "vocabularies"


def test_replacing_changes_the_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("vocabularies", "a", words("yes"))
    _, before = store.load("vocabularies", "a")
    assert not store.save("vocabularies", "a", words("no")).new
    delta, after = store.load("vocabularies", "a")
    assert delta.words == ("no",)
    assert after != before


def test_readers_never_see_half_a_delta(tmp_path: Path) -> None:
    writer, reader = Store(tmp_path), Store(tmp_path)
    sets = [("one",), ("two", "three")]
    writer.save("vocabularies", "a", words(*sets[0]))

    def write(_: int) -> None:
        for i in range(40):
            writer.save("vocabularies", "a", words(*sets[i % 2]))

    def read(_: int) -> set[tuple[str, ...]]:
        return {reader.load("vocabularies", "a")[0].words for _ in range(80)}

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, i) for i in range(2)]
        seen = set().union(*pool.map(read, range(2)))
        for each in writing:
            each.result()
    assert seen <= set(sets)
    assert [p.name for p in (tmp_path / "vocabularies").iterdir()] == ["a"]


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("vocabularies", "a", words("yes"))
    with pytest.raises(TypeError):
        store.save("vocabularies", "a", Delta("base", about={"kind": object()}))
    assert store.load("vocabularies", "a")[0].words == ("yes",)
    assert [p.name for p in (tmp_path / "vocabularies").iterdir()] == ["a"]


def test_leftovers_of_a_killed_writer_are_repaired(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    kept.save("vocabularies", "a", words("yes"))
    kept.save("vocabularies", "b", words("yes"))
    folder = tmp_path / "vocabularies"
    (folder / "a").rename(folder / ".a.0123.old")  # killed between the two renames
    (folder / ".b.4567.partial").mkdir()  # killed while writing
    store = Store(tmp_path)
    assert [entry.name for entry in store.entries("vocabularies")] == ["a", "b"]
    assert sorted(p.name for p in folder.iterdir()) == ["a", "b"]


def test_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("", ".", "..", "../a", "a/b", "a\n", "A", "é", "a" * 65, ".lock"):
        with pytest.raises(UserError, match="not allowed"):
            store.save("voices", name, words("yes"))
    with pytest.raises(NoSuchName):
        store.load("voices", "a")
    store.save("voices", "a", Delta("base"))
    with pytest.raises(NameTaken):
        store.save("vocabularies", "a", words("yes"))
    store.delete("voices", "a")
    assert store.entries("voices") == []
