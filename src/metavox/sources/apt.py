"""Downloads and unpacks Debian packages as archives of files; nothing is installed."""

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

ALTERNATIVE = (
    "to use other recordings, put audio files and a manifest.csv with the columns "
    "path,text,speaker,language into data/, then run: dvc add data"
)


@dataclass(frozen=True)
class Offer:
    """A package version as apt's lists describe it."""

    name: str
    version: str
    architecture: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """The name that apt gives to the downloaded file."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def require_apt() -> None:
    """Raises UserError on a machine without apt; the message says how to use other recordings."""
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise UserError(
            f"no {missing[0]} on this machine, so Debian packages cannot be downloaded; {ALTERNATIVE}"
        )


def offers(pinned: Mapping[str, str], accept_new_versions: bool = False) -> list[Offer]:
    """The pinned version of each package, or the newest one if `accept_new_versions`.

    As root, downloads apt's lists first if there are none or a package is not in them. Raises UserError with the names of
    packages that are unknown or no longer offered in their pinned version.
    """
    require_apt()
    updated = False
    if not _have_lists():
        _update_lists()
        updated = True
    available = _versions(pinned)
    if not updated and not all(available.values()) and os.geteuid() == 0:
        _update_lists()
        available = _versions(pinned)
    missing = [name for name in pinned if not available[name]]
    if missing:
        raise UserError(
            f"package {', '.join(missing)}: not found by apt; expected Debian 12 with its main section, "
            "check /etc/apt/sources.list* and run: sudo apt-get update"
        )
    offered = {name: available[name].get(version) for name, version in pinned.items()}
    newest = {name: next(iter(versions)) for name, versions in available.items()}
    changed = [f"{n} is {newest[n]}, not {pinned[n]}" for n, offer in offered.items() if offer is None]
    if changed and not accept_new_versions:
        raise UserError(
            f"package versions have changed: {'; '.join(changed)}; "
            "data/ would differ from the recorded corpus; to continue, add --accept-new-versions"
        )
    return [offer or available[name][newest[name]] for name, offer in offered.items()]


def download(offers: Iterable[Offer], folder: Path, report: Callable[[Offer], None]) -> list[Path]:
    """Download the .deb of each offer into `folder`, unless it is there with the size and SHA-256 of apt's lists.

    Calls `report` after each package. Raises UserError when a download fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for offer in offers:
        file = folder / offer.file
        if not _is_intact(file, offer):
            _fetch(offer, file)
        report(offer)
        files.append(file)
    return files


def unpack(deb: Path, folder: Path) -> None:
    """Unpack the files of a package under `folder`, without root and without running its scripts."""
    folder.mkdir(parents=True, exist_ok=True)
    done = _run("dpkg", "-x", str(deb), str(folder))
    if done.returncode:
        raise UserError(f"{deb}: cannot be unpacked ({_reason(done)}); delete it and run again")


def _fetch(offer: Offer, file: Path) -> None:
    # Downloaded into a temporary folder and renamed, so that an interrupted download never looks complete.
    with tempfile.TemporaryDirectory(dir=file.parent) as aside:
        command = ["apt-get", "-q"]
        if os.geteuid() == 0:  # otherwise apt warns that its own user cannot write to this folder
            command += ["-o", "APT::Sandbox::User=root"]
        done = _run(*command, "download", f"{offer.name}={offer.version}", cwd=aside)
        downloaded = sorted(Path(aside).glob("*.deb"))
        if done.returncode or not downloaded:
            raise UserError(f"package {offer.name} {offer.version}: download failed ({_reason(done)})")
        if not _is_intact(downloaded[0], offer):
            raise UserError(
                f"package {offer.name} {offer.version}: the downloaded file does not match apt's lists "
                f"(another SHA-256, {downloaded[0].stat().st_size} of {offer.size} bytes); run again"
            )
        downloaded[0].replace(file)


def _is_intact(file: Path, offer: Offer) -> bool:
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
    """Package -> version -> offer, with the version that apt prefers first."""
    versions: dict[str, dict[str, Offer]] = {name: {} for name in names}
    # A single call for all packages, because each call reads all of apt's lists.
    for block in _run("apt-cache", "show", *versions).stdout.split("\n\n"):
        values = dict(re.findall(r"^(Package|Version|Architecture|Size|SHA256): (.*)$", block, re.MULTILINE))
        name = values.get("Package")
        if name in versions and {"Version", "Size", "SHA256"} <= values.keys():
            offer = Offer(
                name, values["Version"], values["Architecture"], int(values["Size"]), values["SHA256"].strip()
            )
            versions[name].setdefault(offer.version, offer)
    return versions


def _run(*command: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "dpkg"))]
    return (errors or lines or [f"exit status {done.returncode}"])[-1].strip()
