"""Small but real corpora and package repositories."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_packages import Publish, quiet

from metavox.sources.build import Built, build
from metavox.sources.profile import read_profile


@pytest.fixture(scope="session")
def state() -> Path:
    """The checkout's own folder of downloaded packages, so that a second run downloads nothing."""
    folder = Path(__file__).parents[2] / ".metavox"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, state: Path) -> Built:
    """The tiny profile, built from the real packages."""
    if shutil.which("apt-get") is None:
        pytest.skip("apt is Debian's")
    return build(read_profile("tiny"), tmp_path_factory.mktemp("tiny") / "data", quiet, state=state)


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publish]:
    """An apt repository on disk, the only one that apt is configured for; call it with (name, version, files)."""
    # Not under pytest's folder, which other users cannot enter.
    root = Path(tempfile.mkdtemp(prefix="metavox-apt-"))
    root.chmod(0o755)
    for folder in ("pool", "lists/partial", "archives/partial", "etc"):
        (root / folder).mkdir(parents=True)
    (root / "status").touch()
    (root / "etc/sources.list").write_text(f"deb [trusted=yes] file:{root}/pool ./\n")
    (root / "apt.conf").write_text(
        f'Dir::Etc "{root}/etc";\nDir::Etc::sourceparts "-";\nDir::State "{root}";\nDir::Cache "{root}";\n'
        f'Dir::State::status "{root}/status";\nAPT::Sandbox::User "root";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(root / "apt.conf"))
    (root / "pool/Packages").touch()

    def publish(name: str, version: str, files: dict[str, bytes]) -> None:
        tree = root / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        (tree / "DEBIAN").mkdir(parents=True)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <n@example.org>\n"
        )
        (tree / "DEBIAN/control").write_text(f"{control}Description: a test\n")
        deb = root / "pool" / f"{name}_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True)
        size, sha256 = deb.stat().st_size, hashlib.sha256(deb.read_bytes()).hexdigest()
        with (root / "pool/Packages").open("a") as packages:
            packages.write(
                f"{control}Filename: ./{deb.name}\nSize: {size}\nSHA256: {sha256}\nDescription: a test\n\n"
            )

    yield publish
    shutil.rmtree(root)


@pytest.fixture
def lists(repository: Publish) -> Callable[[], None]:
    """Call it to download the lists of that repository."""

    def update() -> None:
        subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True, env=os.environ)

    return update
