"""Versions of the served model: commits of git with what DVC tracks, named by the tags of GTO, DVC's registry.

A version is a commit that holds `champion.dvc` (weights, features, tokenizer, embedder, deltas and vocabularies, which are
one folder), `field.dvc` and `field.csv` (what it learned from and what was refused), and `record.json` (how it was decided).
A canary is `canary.dvc` with `canary.json`: it becomes a version only when it is promoted.
GTO's tags give it a number, and say which version is the champion: `gto show recogniser` and `gto history` read them.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metavox.errors import UserError
from metavox.files import write_json
from metavox.telemetry import disable_telemetry

NAME, STAGE = "recogniser", "champion"
CHAMPION, FIELD, CANARY = Path("champion"), Path("field"), Path("canary")
RECORD, DECISIONS, HISTORY, CANARY_RECORD = (
    Path(name) for name in ("record.json", "field.csv", "history.csv", "canary.json")
)
POINTERS = (Path("champion.dvc"), Path("field.dvc"), Path("canary.dvc"))
TRACKED = (*POINTERS, DECISIONS, RECORD, HISTORY, CANARY_RECORD)
AUTHOR = ("metavox", "metavox@localhost")
ASSIGNED = re.compile(rf"{NAME}(?:@(?P<version>v[\d.]+))?#{STAGE}#(?P<count>\d+)")


@dataclass(frozen=True)
class Version:
    """`record` says how the version came to be. `champion` counts its promotions, the latest highest; 0 for none."""

    name: str
    commit: str
    record: dict[str, Any]
    champion: int = 0


def versions(project: Path) -> list[Version]:
    """All versions, the newest first."""
    tags = git(
        project, "for-each-ref", "--format=%(refname:short) %(*objectname)%(objectname)", "refs/tags"
    ).split("\n")
    commits = {name: ids[:40] for name, _, ids in (tag.partition(" ") for tag in tags) if name}
    numbers = {name: name.rpartition("@")[2] for name in commits if re.fullmatch(rf"{NAME}@v[\d.]+", name)}
    promoted: dict[str, int] = {}
    for name, commit in commits.items():
        if found := ASSIGNED.fullmatch(name):
            version = found["version"] or next(n for tag, n in numbers.items() if commits[tag] == commit)
            promoted[version] = max(promoted.get(version, 0), int(found["count"]))
    known = [
        Version(number, commits[tag], _record(project, commits[tag]), promoted.get(number, 0))
        for tag, number in numbers.items()
    ]
    return sorted(known, key=lambda version: _order(version.name), reverse=True)


def champion(project: Path) -> Version | None:
    """The version that was promoted last, or None."""
    return max((v for v in versions(project) if v.champion), key=lambda v: v.champion, default=None)


def previous(project: Path) -> Version | None:
    """The champion before the present one, or None."""
    promoted = sorted((v for v in versions(project) if v.champion), key=lambda v: v.champion)
    return promoted[-2] if len(promoted) > 1 else None


def promote(project: Path, record: dict[str, Any]) -> Version:
    """Pin what is in `champion/` and `field/`, commit it with its record, and make it the champion.

    Raises UserError if a file that is not the loop's own is staged, or git or DVC fails.
    """
    write_json(project / RECORD, record)
    dvc(project, "add", "--quiet", str(CHAMPION), str(FIELD))
    commit(project, f"{record['version']}: {record['why']}")
    message = json.dumps(record["decided"], ensure_ascii=False)
    _tag(project, "register", record["version"], message)
    _tag(project, "assign", record["version"], message)
    found = champion(project)
    assert found is not None
    return found


def next_name(project: Path) -> str:
    """The name of the next version."""
    known = versions(project)
    return f"v0.{_order(known[0].name)[1] + 1}.0" if known else "v0.1.0"


def person(project: Path) -> str:
    """Who decides by hand: the name that git knows."""
    try:
        return git(project, "config", "user.name")
    except UserError:
        return "a person"


def roll_back(project: Path, name: str = "") -> Version:
    """Make an earlier version the champion again: its whole folder comes back, and a commit and a tag say so.

    By default it is the previous champion. What was learned since stays in `field/`, with its decisions. Raises UserError
    if there is no such version or its files are neither in DVC's cache nor on its remote.
    """
    chosen = next((v for v in versions(project) if v.name == name), None) if name else previous(project)
    if chosen is None:
        known = ", ".join(v.name for v in versions(project)) or "none"
        raise UserError(f"version {name or 'before the champion'}: there is none; expected one of {known}")
    restore(project, chosen.commit, [TRACKED[0], RECORD])
    commit(project, f"back to {chosen.name}")
    _tag(project, "assign", chosen.name, json.dumps({"by": person(project), "why": "rolled back"}))
    return chosen


def restore(project: Path, commit: str, paths: list[Path]) -> None:
    """Bring files of the loop, and what DVC tracks with them, to their state in a commit."""
    git(project, "checkout", commit, "--", *map(str, paths))
    tracked = [str(path) for path in paths if path.suffix == ".dvc"]
    try:
        dvc(project, "checkout", "--quiet", "--force", *tracked)
    except UserError:
        dvc(project, "pull", "--quiet", "--force", *tracked)


def commit(project: Path, message: str) -> None:
    """Commit the loop's own files; nothing happens if none has changed."""
    if staged := [
        name for name in git(project, "diff", "--cached", "--name-only").split() if Path(name) not in TRACKED
    ]:
        raise UserError(
            f"{staged[0]}: is staged, and would be committed with the model; commit or unstage it first"
        )
    tracked = git(project, "ls-files", "--", *map(str, TRACKED)).split()
    changed = {str(path) for path in (*TRACKED, Path(".gitignore")) if (project / path).is_file()} | set(
        tracked
    )
    git(project, "add", "--all", "--", *sorted(changed))
    if git(project, "diff", "--cached", "--name-only"):
        identity = ["-c", f"user.name={AUTHOR[0]}", "-c", f"user.email={AUTHOR[1]}"]
        git(project, *identity, "commit", "--quiet", "--no-verify", "-m", message)


def digest_of(pointer: Path) -> str:
    """The digest that a .dvc file names."""
    found = re.search(r"md5: (\S+)", pointer.read_text(encoding="utf-8"))
    return found[1] if found else ""


def head(project: Path) -> str:
    """The checkout's commit; empty before the first one."""
    try:
        return git(project, "rev-parse", "HEAD")
    except UserError:
        return ""


def dvc(project: Path, *arguments: str) -> str:
    """Run DVC. Raises UserError with its error line."""
    disable_telemetry()
    return _run(project, [sys.executable, "-m", "dvc", *arguments])


def git(project: Path, *arguments: str) -> str:
    return _run(project, ["git", *arguments]).rstrip("\n")


def _run(project: Path, command: list[str]) -> str:
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR:", "error:", "fatal:"))]
        program = "dvc" if "dvc" in command else "git"
        raise UserError(f"{program}: {(errors or lines or ['failed without a message'])[-1]}")
    return done.stdout


def _tag(project: Path, action: str, version: str, message: str) -> None:
    from gto import api

    name, email = AUTHOR
    if action == "register":
        api.register(
            str(project), NAME, "HEAD", version=version, message=message, author=name, author_email=email
        )
        return
    api.assign(
        str(project),
        NAME,
        STAGE,
        version=version,
        message=message,
        force=True,
        author=name,
        author_email=email,
    )


def _record(project: Path, commit: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(git(project, "show", f"{commit}:{RECORD}"))
    except UserError:
        return {}
    return found


def _order(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.removeprefix("v").split("."))
