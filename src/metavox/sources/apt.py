"""Debian packages as archives of files: downloaded and unpacked, never installed."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from metavox.errors import UserError

OTHERWISE = (
    "any other recordings serve as well: put audio files and a manifest.csv with the columns "
    "path,text,speaker,language into data/, then run: dvc add data"
)


@dataclass(frozen=True)
class Offer:
    """A package as apt's lists describe it."""

    name: str
    version: str
    architecture: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """The name apt gives the downloaded file."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def require_apt() -> None:
    """Raises UserError where there is no apt, and says what else can be a corpus."""
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise UserError(f"no {missing[0]} here, so Debian packages cannot be fetched; {OTHERWISE}")


def offers(pinned: Mapping[str, str], accept_new_versions: bool = False) -> list[Offer]:
    """What apt offers for each pinned package: the pinned version, or the newest if that is accepted.

    Reads apt's lists, and fetches them first where there are none and this is root. Raises UserError that
    names the packages that are unknown, or whose version has moved.
    """
    require_apt()
    fetched = False
    if not _have_lists():
        _update_lists()
        fetched = True
    found = _versions(pinned)
    if not fetched and not all(found.values()) and os.geteuid() == 0:
        _update_lists()
        found = _versions(pinned)
    missing = [name for name in pinned if not found[name]]
    if missing:
        raise UserError(
            f"package {', '.join(missing)}: not found by apt; expected Debian 12 with its main section, "
            "check /etc/apt/sources.list* and run: sudo apt-get update"
        )
    chosen = {name: found[name].get(version) for name, version in pinned.items()}
    newest = {name: next(iter(versions)) for name, versions in found.items()}
    moved = [f"{n} is {newest[n]}, not {pinned[n]}" for n, offer in chosen.items() if offer is None]
    if moved and not accept_new_versions:
        raise UserError(
            f"package versions have moved: {'; '.join(moved)}; "
            "data/ will not be the recorded one: go on with --accept-new-versions"
        )
    return [offer or found[name][newest[name]] for name, offer in chosen.items()]


def download(wanted: Iterable[Offer], folder: Path, told: Callable[[Offer], None]) -> list[Path]:
    """The .deb of each offer in `folder`; one that is there and whole is not fetched again.

    A file is whole when its size and SHA-256 are those in apt's lists. `told` hears of each finished one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for offer in wanted:
        file = folder / offer.file
        if not _whole(file, offer):
            _fetch(offer, file)
        told(offer)
        files.append(file)
    return files


def unpack(deb: Path, folder: Path) -> None:
    """Unpack the files of a package under `folder`; no root, no scripts run."""
    folder.mkdir(parents=True, exist_ok=True)
    done = _run("dpkg", "-x", str(deb), str(folder))
    if done.returncode:
        raise UserError(f"{deb}: cannot be unpacked ({_reason(done)}); delete it and run again")


def _fetch(offer: Offer, file: Path) -> None:
    # Beside its place and renamed, so that an interrupted download never looks whole.
    with tempfile.TemporaryDirectory(dir=file.parent) as aside:
        command = ["apt-get", "-q"]
        if os.geteuid() == 0:  # else apt warns that its own user cannot write here
            command += ["-o", "APT::Sandbox::User=root"]
        done = _run(*command, "download", f"{offer.name}={offer.version}", cwd=aside)
        got = sorted(Path(aside).glob("*.deb"))
        if done.returncode or not got:
            raise UserError(f"package {offer.name} {offer.version}: download failed ({_reason(done)})")
        if not _whole(got[0], offer):
            raise UserError(
                f"package {offer.name} {offer.version}: what came is not what apt's lists say "
                f"(another SHA-256, {got[0].stat().st_size} of {offer.size} bytes); run again"
            )
        got[0].replace(file)


def _whole(file: Path, offer: Offer) -> bool:
    if not file.is_file() or file.stat().st_size != offer.size:
        return False
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest() == offer.sha256


def _have_lists() -> bool:
    listed = _run("apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages")
    return bool(listed.stdout.split())


def _update_lists() -> None:
    if os.geteuid() != 0:
        raise UserError("apt has no package lists; run: sudo apt-get update")
    done = _run("apt-get", "-q", "update")
    if done.returncode:
        raise UserError(f"apt-get update failed ({_reason(done)})")


def _versions(names: Iterable[str]) -> dict[str, dict[str, Offer]]:
    """For each package its versions and their offers, the one that apt would choose first."""
    found: dict[str, dict[str, Offer]] = {name: {} for name in names}
    # One call: each reads all of apt's lists.
    for block in _run("apt-cache", "show", *found).stdout.split("\n\n"):
        values = dict(re.findall(r"^(Package|Version|Architecture|Size|SHA256): (.*)$", block, re.MULTILINE))
        name = values.get("Package")
        if name in found and {"Version", "Size", "SHA256"} <= values.keys():
            offer = Offer(
                name, values["Version"], values["Architecture"], int(values["Size"]), values["SHA256"].strip()
            )
            found[name].setdefault(offer.version, offer)
    return found


def _run(*command: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "dpkg"))]
    return (errors or lines or [f"exit status {done.returncode}"])[-1].strip()
