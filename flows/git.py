"""What git says about a checkout."""

import subprocess
from pathlib import Path

from metavox.errors import UserError

# DVC writes these during a run; results come back through the run-cache.
LOCK, IGNORED = "dvc.lock", ".gitignore"


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def head(project: Path) -> str:
    """The checkout's commit; empty outside a git repository."""
    done = git(project, "rev-parse", "HEAD")
    return done.stdout.strip() if done.returncode == 0 else ""


def changed_files(project: Path) -> list[str]:
    """Tracked files that differ from the commit, apart from those that DVC writes."""
    names = git(project, "diff", "--name-only", "--relative", "HEAD").stdout.splitlines()
    return [name for name in names if Path(name).name not in (LOCK, IGNORED)]


def committed(project: Path) -> str:
    """The checkout's commit. Raises UserError if files that git tracks differ from it, or outside git."""
    if not (commit := head(project)):
        raise UserError(
            f"{project}: not a git repository with a commit; what runs elsewhere is a commit, so `git init` and "
            "commit first"
        )
    if changed := changed_files(project):
        raise UserError(
            f"{', '.join(changed[:3])}: changed since commit {commit[:8]}, which is what would run; commit first"
        )
    return commit
