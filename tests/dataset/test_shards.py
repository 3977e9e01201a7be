import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from metavox.audio.read import read_bytes
from metavox.dataset import shards


def test_shards_are_limited_deterministic_and_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 30_000)
    files = [("a/一.wav", b"1" * 15_000), ("b.wav", b"2" * 15_000), ("c.wav", b"3" * 40_000), ("d.wav", b"")]
    for name in ("one", "two"):
        paths = shards.write_shards(tmp_path / name / "shards", "source", files)
    names = sorted(p.name for p in (tmp_path / "one/shards").iterdir())
    assert names == [f"source-{i:03d}.tar" for i in range(4)]
    assert shards.dvc_digest(tmp_path / "one") == shards.dvc_digest(tmp_path / "two")
    assert [read_bytes(tmp_path / "two" / paths[name]) for name, _ in files] == [data for _, data in files]
    with tarfile.open(tmp_path / "one/shards/source-000.tar") as archive:
        (member,) = archive.getmembers()
    assert (member.mtime, member.uid, member.gid, member.mode, member.uname) == (0, 0, 0, 0o644, "")


def test_digest_is_the_one_dvc_writes(tmp_path: Path) -> None:
    (tmp_path / "data/shards").mkdir(parents=True)
    (tmp_path / "data/manifest.csv").write_text("path,text\r\nä.wav,hello\r\n", encoding="utf-8")
    (tmp_path / "data/shards/x-000.tar").write_bytes(bytes(range(256)) * 99)
    for command in (("init", "--no-scm", "-q"), ("add", "-q", "data")):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True, capture_output=True)
    assert f"md5: {shards.dvc_digest(tmp_path / 'data')}\n" in (tmp_path / "data.dvc").read_text()
