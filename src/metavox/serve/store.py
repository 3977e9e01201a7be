"""The store of a service's deltas: one folder per delta, by kind and name. Recordings are not kept.

Beside the stored deltas are read-only ones in other folders, which are served and never changed.

Every change is written next to the old delta and renamed into place under a lock that processes share, so that
a reader sees either the old delta or the new one, complete.
"""

import fcntl
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from metavox.errors import UserError
from metavox.files import replace
from metavox.recognisers.delta import Delta, describe, load_delta, save_delta

Kind = Literal["voices", "vocabularies"]
KINDS: tuple[Kind, ...] = ("voices", "vocabularies")
FILES = ("delta.json", "delta.safetensors")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class NoSuchName(UserError):
    """No delta of that name exists."""


class NameTaken(UserError):
    """The name belongs to a delta of the other kind."""


class ReadOnly(UserError):
    """The name belongs to a read-only delta."""


@dataclass(frozen=True)
class Entry:
    """A delta without its tensors.

    `base` is the digest of the base it was made for; `sections` and `about` are those of its `delta.json`; `bytes` is its
    size on disk; `created` is in seconds since 1970.
    """

    name: str
    kind: Kind
    base: str
    sections: Mapping[str, Any]
    about: Mapping[str, Any]
    bytes: int
    created: int
    read_only: bool = False

    @property
    def words(self) -> Mapping[str, Any]:
        """The vocabulary section; empty if there is none."""
        return dict(self.sections.get("vocabulary", {}))


@dataclass(frozen=True)
class ReadOnlyDeltas:
    """Folders and kinds of deltas by the name under which they are served."""

    folders: Mapping[str, Path] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    @classmethod
    def of(cls, folders: Sequence[Path]) -> "ReadOnlyDeltas":
        """Name each delta after its folder. Raises UserError for a folder that is not a delta and for duplicate names."""
        by_name: dict[str, Path] = {}
        kinds: dict[str, Kind] = {}
        for folder in map(Path.absolute, folders):
            name = check_name(folder.name)
            if name in by_name:
                raise UserError(
                    f"two deltas are called {name}: {by_name[name]}, {folder}; rename one of the folders"
                )
            by_name[name], kinds[name] = folder, kind_of_delta(load_delta(folder))
        return cls(by_name, kinds)


def kind_of_delta(delta: Delta) -> Kind:
    """The kind under which a delta is stored: a vocabulary if it holds words, else a voice."""
    return "vocabularies" if delta.vocabulary else "voices"


def check_name(name: str) -> str:
    """Return `name`. Raises UserError unless it fits the strict pattern that folder names need."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"the name {name[:80]!r} is not allowed; expected 1 to 64 of a-z 0-9 _ -, beginning with a letter or digit"
        )
    return name


@dataclass(frozen=True)
class Saved:
    """A saved delta, as it was at that moment, and whether its name is new."""

    entry: Entry
    new: bool


class Store:
    """Deltas in `root`/{voices,vocabularies}/NAME, and read-only ones, which take precedence."""

    def __init__(self, root: Path, read_only: ReadOnlyDeltas = ReadOnlyDeltas()):
        self.root = root.absolute()
        self.read_only = read_only
        for kind in KINDS:
            (self.root / kind).mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_EX):
            self._recover()

    def check_free(self, kind: Kind, name: str) -> None:
        """Raise NameTaken if a delta of the other kind has the name, ReadOnly if a read-only delta has it."""
        if name in self.read_only.folders:
            raise ReadOnly(
                f"{name} is served read-only from {self.read_only.folders[name]}; choose another name"
            )
        for other in KINDS:
            if other != kind and self._folder(other, name).is_dir():
                raise NameTaken(
                    f"{name} is already one of the {other}; choose another name, or delete that one first"
                )

    def save(self, kind: Kind, name: str, delta: Delta) -> Saved:
        """Save `delta`, replacing an older one. Raises as `check_free` does."""
        target = self._folder(kind, name)
        aside = target.with_name(f".{name}.{uuid4().hex}.partial")
        with self._locked(fcntl.LOCK_EX):
            self.check_free(kind, name)
            try:
                save_delta(delta, aside)
                new = self._swap(aside, target)
                return Saved(self._entry(kind, name), new)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def load(self, kind: Kind, name: str) -> tuple[Delta, str]:
        """The delta and its version. Raises NoSuchName."""
        with self._locked(fcntl.LOCK_SH):
            folder = self._existing(kind, name)
            return load_delta(folder), _version(folder)

    def version(self, kind: Kind, name: str) -> str:
        """A string that changes whenever the delta does. Raises NoSuchName."""
        with self._locked(fcntl.LOCK_SH):
            return _version(self._existing(kind, name))

    def files(self, kind: Kind, name: str) -> dict[str, bytes]:
        """The delta's two files, both of the same version. Raises NoSuchName."""
        with self._locked(fcntl.LOCK_SH):
            folder = self._existing(kind, name)
            return {file: (folder / file).read_bytes() for file in FILES}

    def kind_of(self, name: str) -> Kind:
        """The kind of the delta `name`. Raises NoSuchName."""
        if name in self.read_only.kinds:
            return self.read_only.kinds[name]
        for kind in KINDS:
            if self._folder(kind, name).is_dir():
                return kind
        raise NoSuchName(f"no voice or vocabulary is named {name}; `metavox deltas list` shows the names")

    def entry(self, kind: Kind, name: str) -> Entry:
        """Describe a delta. Raises NoSuchName."""
        with self._locked(fcntl.LOCK_SH):
            return self._entry(kind, name)

    def entries(self, kind: Kind) -> list[Entry]:
        """All deltas of a kind, sorted by name."""
        with self._locked(fcntl.LOCK_SH):
            stored = {p.name for p in (self.root / kind).iterdir() if NAME.fullmatch(p.name)}
            read_only_names = {name for name, its in self.read_only.kinds.items() if its == kind}
            names = (stored - self.read_only.kinds.keys()) | read_only_names
            return [self._entry(kind, name) for name in sorted(names)]

    def delete(self, kind: Kind, name: str) -> None:
        """Delete a delta. Raises NoSuchName, ReadOnly."""
        with self._locked(fcntl.LOCK_EX):
            folder = self._existing(kind, name)
            self.check_free(kind, name)
            doomed = self.root / kind / f".{name}.{uuid4().hex}.partial"
            folder.rename(doomed)
            shutil.rmtree(doomed)

    def _folder(self, kind: Kind, name: str) -> Path:
        return self.root / kind / check_name(name)

    def _existing(self, kind: Kind, name: str) -> Path:
        """The folder of an existing delta. Raises NoSuchName."""
        folder = self._folder(kind, name)
        if name in self.read_only.folders:
            folder = self.read_only.folders[name] if self.read_only.kinds[name] == kind else folder / "none"
        if not (folder / "delta.json").is_file():
            raise NoSuchName(f"none of the {kind} is named {name}")
        return folder

    def _entry(self, kind: Kind, name: str) -> Entry:
        folder = self._existing(kind, name)
        try:
            description = json.loads((folder / "delta.json").read_text(encoding="utf-8"))
            if "sections" not in description:  # the first version of the format
                delta = load_delta(folder)
                description = {"base": delta.base, "sections": describe(delta), "about": delta.about}
            base, sections, about = (description[key] for key in ("base", "sections", "about"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{kind}/{name}: its delta.json cannot be read; delete it and enrol it again"
            ) from error
        size = sum(p.stat().st_size for p in folder.iterdir())
        created = int(about.get("created") or folder.stat().st_mtime)
        return Entry(name, kind, base, sections, about, size, created, name in self.read_only.folders)

    def _swap(self, aside: Path, target: Path) -> bool:
        """Rename `aside` to `target`; True if there was no `target` before."""
        is_new = not target.is_dir()
        replace(aside, target)
        shutil.rmtree(aside, ignore_errors=True)
        return is_new

    def _recover(self) -> None:
        """Clean up after a killed process: restore an old delta without a successor, remove partial ones."""
        for kind in KINDS:
            for leftover in (self.root / kind).glob(".*"):
                target = leftover.with_name(leftover.name[1:].split(".")[0])
                if leftover.suffix == ".old" and not target.exists():
                    leftover.rename(target)
                else:
                    shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        with (self.root / ".lock").open("a") as lock:
            fcntl.flock(lock, mode)
            yield


def _version(folder: Path) -> str:
    status = folder.stat()
    return f"{status.st_ino}-{status.st_mtime_ns}"
