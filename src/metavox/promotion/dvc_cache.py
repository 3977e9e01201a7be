"""Where DVC keeps a file, by its digest, and the results of earlier runs."""

from pathlib import Path


def cached_file(project: Path, digest: str) -> Path:
    """The path of a file in DVC's cache."""
    return cache_folder(project) / "files/md5" / digest[:2] / digest[2:]


def run_cache(project: Path) -> Path:
    """The folder of DVC's run-cache."""
    return cache_folder(project) / "runs"


def cache_folder(project: Path) -> Path:
    """`cache.dir` of DVC's configuration, relative to the .dvc folder; by default .dvc/cache."""
    from dvc.config import Config

    return project / ".dvc" / str(Config(str(project / ".dvc"))["cache"].get("dir", "cache"))
