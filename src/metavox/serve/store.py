"""What a tenant taught the service: one folder a delta, by kind and name. Recordings are not kept.

Every change happens beside the old delta and is renamed in place under a lock that processes share, so that
a reader sees the old or the new one, whole.
"""

import fcntl
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

from metavox.errors import UserError
from metavox.recognisers.conformer.delta import Delta, load_delta, save_delta

Kind = Literal["voices", "vocabularies"]
KINDS: tuple[Kind, ...] = ("voices", "vocabularies")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class NoSuchName(UserError):
    """Nothing of that name is stored."""


class NameTaken(UserError):
    """The name belongs to a delta of the other kind."""


@dataclass(frozen=True)
class Entry:
    """One stored delta without its weights. `about` is its `delta.json`; `bytes` its size on disk."""

    name: str
    kind: Kind
    about: dict[str, object]
    bytes: int


def check_name(name: str) -> str:
    """Return `name`, or raise UserError: a name becomes a folder, so it is held to a strict pattern."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"the name {name[:80]!r} is not allowed; expected 1 to 64 of a-z 0-9 _ -, first a letter or digit"
        )
    return name


class Store:
    """Deltas in `root`/{voices,vocabularies}/NAME."""

    def __init__(self, root: Path):
        self.root = root.absolute()
        for kind in KINDS:
            (self.root / kind).mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_EX):
            self._recover()

    def save(self, kind: Kind, name: str, delta: Delta) -> bool:
        """Keep `delta`, in place of an older one. True when the name is new. Raises NameTaken."""
        target = self._place(kind, name)
        aside = target.with_name(f".{name}.{uuid4().hex}.partial")
        with self._locked(fcntl.LOCK_EX):
            for other in KINDS:
                if other != kind and self._place(other, name).is_dir():
                    raise NameTaken(
                        f"{name} is the name of one of the {other}; choose another, or delete that first"
                    )
            try:
                save_delta(delta, aside)
                return self._swap(aside, target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def load(self, kind: Kind, name: str) -> tuple[Delta, str]:
        """The delta and its version, which changes whenever the delta does. Raises NoSuchName."""
        place = self._place(kind, name)
        with self._locked(fcntl.LOCK_SH):
            self._entry(kind, name)
            found = place.stat()
            return load_delta(place), f"{found.st_ino}-{found.st_mtime_ns}"

    def kind_of(self, name: str) -> Kind:
        """Which kind of delta `name` is. Raises NoSuchName."""
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
            names = sorted(p.name for p in (self.root / kind).iterdir() if NAME.fullmatch(p.name))
            return [self._entry(kind, name) for name in names]

    def delete(self, kind: Kind, name: str) -> None:
        """Raises NoSuchName."""
        with self._locked(fcntl.LOCK_EX):
            self._entry(kind, name)
            doomed = self.root / kind / f".{name}.{uuid4().hex}.partial"
            self._place(kind, name).rename(doomed)
            shutil.rmtree(doomed)

    def _place(self, kind: Kind, name: str) -> Path:
        return self.root / kind / check_name(name)

    def _entry(self, kind: Kind, name: str) -> Entry:
        place = self._place(kind, name)
        try:
            about = json.loads((place / "delta.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NoSuchName(f"none of the {kind} is named {name}") from None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{kind}/{name}: its delta.json cannot be read; delete it and enrol it again"
            ) from error
        return Entry(name, kind, about, sum(p.stat().st_size for p in place.iterdir()))

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
