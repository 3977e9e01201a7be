"""`metavox`, but `metavox stage NAME` also writes what it read to $METAVOX_READS/NAME.json.

files    of the project's folder that were opened, by this process, its children and libraries in C
keys     of params.yaml whose values were used
modules  of metavox that the stage imported
"""

import ctypes
import dataclasses
import importlib
import json
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

IN_OPEN, IN_Q_OVERFLOW, IN_ISDIR = 0x20, 0x4000, 0x40000000  # of inotify(7)
EVENT = struct.Struct("iIII")


class OpenedFiles:
    """Files opened since creation in the folders that existed then, without hidden ones."""

    def __init__(self, root: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders: dict[int, Path] = {}
        for folder, inside, _ in os.walk(root):
            inside[:] = [name for name in inside if not name.startswith((".", "__pycache__"))]
            number = libc.inotify_add_watch(self._queue, os.fsencode(folder), IN_OPEN)
            assert number > 0, os.strerror(ctypes.get_errno())
            self._folders[number] = Path(folder).relative_to(root)

    def names(self) -> set[str]:
        found = set()
        while data := self._read():
            while data:
                number, mask, _, length = EVENT.unpack_from(data)
                name = os.fsdecode(data[EVENT.size : EVENT.size + length].rstrip(b"\0"))
                data = data[EVENT.size + length :]
                assert not mask & IN_Q_OVERFLOW, "the inotify queue overflowed"
                if mask & IN_OPEN and not mask & IN_ISDIR:
                    found.add(str(self._folders[number] / name))
        return found

    def _read(self) -> bytes:
        try:
            return os.read(self._queue, 1 << 20)
        except BlockingIOError:
            return b""


def record_keys(used: set[str]) -> None:
    """Add to `used` each key of the loaded parameters whose value is read."""
    from metavox import params

    load = params.load_params
    fields = {field.alias or name: field.annotation for name, field in params.Params.model_fields.items()}
    sections = {kind: name for name, kind in fields.items() if kind not in (int, str)}

    def keys(owner: Any, without: Any = ()) -> set[str]:
        if is_dataclass(owner):
            return {f"{sections[type(owner)]}.{field.name}" for field in dataclasses.fields(owner)}
        own = {
            name: field.alias or name
            for name, field in type(owner).model_fields.items()
            if name not in without
        }
        if type(owner) in sections:
            return {f"{sections[type(owner)]}.{name}" for name in own}
        parts = [getattr(owner, name) for name in own]
        return {key for part in parts if type(part) in sections for key in keys(part)} | (
            own.keys() - {name for name, part in zip(own, parts, strict=True) if type(part) in sections}
        )

    def get(self: Any, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name == "model_dump":
            return recorded_dump(self, value)
        if is_dataclass(value) and type(value) in sections:  # passed on whole, so that all of it may be read
            used.update(keys(value))
        elif name in type(self).model_fields and type(value) not in sections:
            used.add(f"{sections[type(self)]}.{name}" if type(self) in sections else name)
        return value

    def recorded_dump(owner: Any, dump: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(**options: Any) -> Any:
            used.update(keys(owner, options.get("exclude") or ()))
            return dump(**options)

        return recorded

    def loaded(*arguments: Any, **options: Any) -> params.Params:
        found = load(*arguments, **options)
        params._Section.__getattribute__ = get  # type: ignore[method-assign]
        return found

    params.load_params = loaded


def main() -> None:
    from metavox.__main__ import main as run

    if sys.argv[1:2] != ["stage"]:
        run()
        return
    from metavox import threads

    threads.begin()
    for module in ("metavox.cli.main", "metavox.pipeline.artifacts", "metavox.pipeline.dependencies"):
        importlib.import_module(module)  # loaded by the command, not by the stage

    before, keys = set(sys.modules), set()
    record_keys(keys)
    opened = OpenedFiles(Path.cwd())
    try:
        run()
    finally:
        modules = {name for name in set(sys.modules) - before if name.startswith("metavox.")}
        found = {"files": opened.names(), "keys": keys, "modules": modules}
        text = json.dumps({name: sorted(values) for name, values in found.items()}, indent=1)
        Path(os.environ["METAVOX_READS"], f"{sys.argv[2]}.json").write_text(text)


if __name__ == "__main__":
    main()
