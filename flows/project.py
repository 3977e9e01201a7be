"""What `dvc.yaml` says of each stage: the one list of stages, in the order in which they run."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from metavox.errors import UserError

SETTINGS = {"pool", "timeout_s", "retries", "retry_delay_s", "gate", "because"}


@dataclass(frozen=True)
class Stage:
    """A stage of `dvc.yaml`. Its `meta` mapping holds the settings that DVC itself has no use for.

    `gate` is a dotted key of the stage's metrics file that must be true for the pipeline to go on; `because`
    is the key that says why it is not.
    """

    name: str
    needs: tuple[str, ...]
    metrics: tuple[str, ...]
    outs: tuple[str, ...]
    pool: str = "local-process"
    timeout_s: float = 3600.0
    retries: int = 2
    retry_delay_s: float = 10.0
    gate: str | None = None
    because: str | None = None


def read_stages(project: Path) -> list[Stage]:
    """The stages of `project/dvc.yaml`, each one after all that it needs.

    Raises UserError when there is no such file, or when it holds what a flow cannot name (`foreach`,
    `matrix`, a cycle).
    """
    path = project / "dvc.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run in the project's folder, where dvc.yaml is")
    try:
        text = _interpolated(path.read_text(encoding="utf-8"), project / "params.yaml")
        entries: dict[str, Any] = (yaml.safe_load(text) or {}).get("stages") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise UserError(f"{path}: not a DVC pipeline: {' '.join(str(error).split())}") from error
    for name, entry in entries.items():
        if not isinstance(entry, dict) or "cmd" not in entry:
            raise UserError(f"{path}: stage {name} has no `cmd` of its own; flows take plain stages only")
    outs = {name: _outs(entry) for name, entry in entries.items()}
    needs = {name: _needs(name, entry, outs) for name, entry in entries.items()}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise UserError(
            f"{path}: stages need each other in a circle: {' -> '.join(error.args[1])}"
        ) from error
    return [_stage(path, name, entries[name], needs[name], outs[name]) for name in order]


def _interpolated(pipeline: str, params: Path) -> str:
    """The text of dvc.yaml with each `${section.key}` as params.yaml has it; one that it lacks stays, for DVC to refuse."""
    values = yaml.safe_load(params.read_text(encoding="utf-8")) if params.is_file() else None

    def value(reference: re.Match[str]) -> str:
        found = values
        for name in reference[1].split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return reference[0] if found is None else str(found)

    return re.sub(r"\$\{([\w.]+)\}", value, pipeline)


def up_to(stages: Iterable[Stage], name: str) -> list[Stage]:
    """The stage called `name` and all that it needs, in order."""
    by_name = {stage.name: stage for stage in stages}
    if name not in by_name:
        raise UserError(f"{name}: no such stage in dvc.yaml; there are {', '.join(by_name)}")
    wanted, todo = set(), [name]
    while todo:
        wanted.add(current := todo.pop())
        todo += by_name[current].needs
    return [stage for stage in by_name.values() if stage.name in wanted]


def _stage(
    path: Path, name: str, entry: dict[str, Any], needs: tuple[str, ...], outs: tuple[str, ...]
) -> Stage:
    settings = entry.get("meta") or {}
    unknown = sorted(set(settings) - SETTINGS)
    if unknown:
        raise UserError(
            f"{path}: stage {name}: unknown meta key {unknown[0]}; allowed: {', '.join(sorted(SETTINGS))}"
        )
    return Stage(name=name, needs=needs, metrics=_paths(entry, "metrics"), outs=outs, **settings)


def _needs(name: str, entry: dict[str, Any], outs: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    deps = _paths(entry, "deps")
    others = [other for other in outs if other != name]
    return tuple(other for other in others if any(_overlap(out, dep) for out in outs[other] for dep in deps))


def _outs(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(path for kind in ("outs", "metrics", "plots") for path in _paths(entry, kind))


def _paths(entry: dict[str, Any], kind: str) -> tuple[str, ...]:
    """Paths of one kind; an entry is a path, or a mapping from a path to its options."""
    return tuple(str(item if isinstance(item, str) else next(iter(item))) for item in entry.get(kind) or ())


def _overlap(one: str, other: str) -> bool:
    first, second = PurePosixPath(one), PurePosixPath(other)
    return first.is_relative_to(second) or second.is_relative_to(first)
