"""What a tenant taught the service: one folder a delta, by kind and name. Recordings are not kept.

Beside them are deltas in folders of somebody else's, which are served and never changed.

Every change happens beside the old delta and is renamed in place under a lock that processes share, so that
a reader sees the old or the new one, whole.
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
from metavox.recognisers.delta import Delta, describe, load_delta, save_delta

Kind = Literal["voices", "vocabularies"]
KINDS: tuple[Kind, ...] = ("voices", "vocabularies")
FILES = ("delta.json", "delta.safetensors")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class NoSuchName(UserError):
    """Nothing of that name is stored."""


class NameTaken(UserError):
    """The name belongs to a delta of the other kind."""


class ReadOnly(UserError):
    """The name belongs to a delta that is served and not stored."""


@dataclass(frozen=True)
class Entry:
    """A delta without its numbers. `base` is the digest of what it changes, `sections` and `about` are those of its
    `delta.json`; `bytes` is its size on disk; `created` is in seconds since 1970; `fixed` is not to be changed."""

    name: str
    kind: Kind
    base: str
    sections: Mapping[str, Any]
    about: Mapping[str, Any]
    bytes: int
    created: int
    fixed: bool = False

    @property
    def words(self) -> Mapping[str, Any]:
        """The section of enrolled words; empty where there is none."""
        return dict(self.sections.get("vocabulary", {}))


@dataclass(frozen=True)
class Fixed:
    """Folders of deltas by the name that they are served under."""

    folders: Mapping[str, Path] = field(default_factory=dict)
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    @classmethod
    def of(cls, folders: Sequence[Path]) -> "Fixed":
        """Each under its folder's name. Raises UserError for a folder that is no delta, and for a name twice."""
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
    """Where it is kept: among the vocabularies if it holds words."""
    return "vocabularies" if delta.vocabulary else "voices"


def check_name(name: str) -> str:
    """Return `name`, or raise UserError: a name becomes a folder, so it is held to a strict pattern."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"the name {name[:80]!r} is not allowed; expected 1 to 64 of a-z 0-9 _ -, first a letter or digit"
        )
    return name


@dataclass(frozen=True)
class Kept:
    """What was kept, as it was at that moment, and whether its name is new."""

    entry: Entry
    new: bool


class Store:
    """Deltas in `root`/{voices,vocabularies}/NAME, and those that are `fixed`, which come first."""

    def __init__(self, root: Path, fixed: Fixed = Fixed()):
        self.root = root.absolute()
        self.fixed = fixed
        for kind in KINDS:
            (self.root / kind).mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_EX):
            self._recover()

    def check_free(self, kind: Kind, name: str) -> None:
        """Raises NameTaken where the other kind has the name, ReadOnly where a delta that is served from a folder has it."""
        if name in self.fixed.folders:
            raise ReadOnly(
                f"{name} is served from {self.fixed.folders[name]} and stays as it is; choose another name"
            )
        for other in KINDS:
            if other != kind and self._place(other, name).is_dir():
                raise NameTaken(
                    f"{name} is the name of one of the {other}; choose another, or delete that first"
                )

    def save(self, kind: Kind, name: str, delta: Delta) -> Kept:
        """Keep `delta`, in place of an older one. Raises as `check_free`."""
        target = self._place(kind, name)
        aside = target.with_name(f".{name}.{uuid4().hex}.partial")
        with self._locked(fcntl.LOCK_EX):
            self.check_free(kind, name)
            try:
                save_delta(delta, aside)
                new = self._swap(aside, target)
                return Kept(self._entry(kind, name), new)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def load(self, kind: Kind, name: str) -> tuple[Delta, str]:
        """The delta and its version. Raises NoSuchName."""
        with self._locked(fcntl.LOCK_SH):
            place = self._found(kind, name)
            return load_delta(place), _version(place)

    def version(self, kind: Kind, name: str) -> str:
        """What changes whenever the delta does. Raises NoSuchName."""
        with self._locked(fcntl.LOCK_SH):
            return _version(self._found(kind, name))

    def files(self, kind: Kind, name: str) -> dict[str, bytes]:
        """The delta's two files, of one version. Raises NoSuchName."""
        with self._locked(fcntl.LOCK_SH):
            place = self._found(kind, name)
            return {file: (place / file).read_bytes() for file in FILES}

    def kind_of(self, name: str) -> Kind:
        """Which kind of delta `name` is. Raises NoSuchName."""
        if name in self.fixed.kinds:
            return self.fixed.kinds[name]
        for kind in KINDS:
            if self._place(kind, name).is_dir():
                return kind
        raise NoSuchName(f"no voice and no vocabulary is named {name}")

    def entry(self, kind: Kind, name: str) -> Entry:
        with self._locked(fcntl.LOCK_SH):
            return self._entry(kind, name)

    def entries(self, kind: Kind) -> list[Entry]:
        """All of a kind, by name."""
        with self._locked(fcntl.LOCK_SH):
            stored = {p.name for p in (self.root / kind).iterdir() if NAME.fullmatch(p.name)}
            fixed = {name for name, its in self.fixed.kinds.items() if its == kind}
            names = (stored - self.fixed.kinds.keys()) | fixed
            return [self._entry(kind, name) for name in sorted(names)]

    def delete(self, kind: Kind, name: str) -> None:
        """Raises NoSuchName, ReadOnly."""
        with self._locked(fcntl.LOCK_EX):
            place = self._found(kind, name)
            self.check_free(kind, name)
            doomed = self.root / kind / f".{name}.{uuid4().hex}.partial"
            place.rename(doomed)
            shutil.rmtree(doomed)

    def _place(self, kind: Kind, name: str) -> Path:
        return self.root / kind / check_name(name)

    def _found(self, kind: Kind, name: str) -> Path:
        """The folder of a delta that is there. Raises NoSuchName."""
        place = self._place(kind, name)
        if name in self.fixed.folders:
            place = self.fixed.folders[name] if self.fixed.kinds[name] == kind else place / "none"
        if not (place / "delta.json").is_file():
            raise NoSuchName(f"none of the {kind} is named {name}")
        return place

    def _entry(self, kind: Kind, name: str) -> Entry:
        place = self._found(kind, name)
        try:
            described = json.loads((place / "delta.json").read_text(encoding="utf-8"))
            if "sections" not in described:  # as deltas were written at first
                delta = load_delta(place)
                described = {"base": delta.base, "sections": describe(delta), "about": delta.about}
            base, sections, about = (described[key] for key in ("base", "sections", "about"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{kind}/{name}: its delta.json cannot be read; delete it and enrol it again"
            ) from error
        size = sum(p.stat().st_size for p in place.iterdir())
        created = int(about.get("created") or place.stat().st_mtime)
        return Entry(name, kind, base, sections, about, size, created, name in self.fixed.folders)

    def _swap(self, aside: Path, target: Path) -> bool:
        """Put `aside` in the place of `target`; True when there was none."""
        if not target.is_dir():
            aside.rename(target)
            return True
        old = target.with_name(f".{target.name}.{uuid4().hex}.old")
        target.rename(old)
        aside.rename(target)
        shutil.rmtree(old)
        return False

    def _recover(self) -> None:
        """Put right what a process that was killed left: an old delta without its successor comes back."""
        for kind in KINDS:
            for left in (self.root / kind).glob(".*"):
                target = left.with_name(left.name[1:].split(".")[0])
                if left.suffix == ".old" and not target.exists():
                    left.rename(target)
                else:
                    shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self.root / ".lock").open("a") as lock:
            fcntl.flock(lock, how)
            yield


def _version(place: Path) -> str:
    found = place.stat()
    return f"{found.st_ino}-{found.st_mtime_ns}"
