"""Read the stages of `dvc.yaml`, in the order in which they run."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from metavox.errors import UserError

LOCAL = "cpu"  # the pool of the machine that runs the pipeline
SETTINGS = {"pool", "timeout_s", "retries", "retry_delay_s", "gate", "because", "test_speakers"}


@dataclass(frozen=True)
class Stage:
    """A stage of `dvc.yaml`. Its `meta` mapping holds the settings of the flows, which DVC ignores.

    `gate` is a dotted key of the stage's metrics that must be true for the pipeline to continue; `because` is the key of
    the reason when it is not. `params` are the keys of params.yaml that it depends on, sections or single ones.
    `test_speakers` says that its metrics are of test speakers, so that no choice may follow them.
    """

    name: str
    needs: tuple[str, ...]
    deps: tuple[str, ...]
    metrics: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...] = ()
    pool: str = LOCAL
    timeout_s: float = 3600.0
    retries: int = 2
    retry_delay_s: float = 10.0
    gate: str | None = None
    because: str | None = None
    test_speakers: bool = False

    def reads(self, parameter: str) -> bool:
        """Whether a dotted key of params.yaml is among the stage's parameters."""
        return any(parameter == name or parameter.startswith(f"{name}.") for name in self.params)


def read_stages(project: Path) -> list[Stage]:
    """The stages of `project/dvc.yaml`, each after the stages that it needs.

    Raises UserError if the file is missing or contains what flows do not support (`foreach`, `matrix`, a cycle).
    """
    path = project / "dvc.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run in the project's folder, where dvc.yaml is")
    try:
        text = _interpolated(path.read_text(encoding="utf-8"), project / "params.yaml")
        entries: dict[str, Any] = (yaml.safe_load(text) or {}).get("stages") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise UserError(f"{path}: not a DVC pipeline ({' '.join(str(error).split())})") from error
    for name, entry in entries.items():
        if not isinstance(entry, dict) or "cmd" not in entry:
            raise UserError(
                f"{path}: stage {name} has no `cmd`; flows support plain stages only, not foreach or matrix"
            )
    outs = {name: _outs(entry) for name, entry in entries.items()}
    needs = {name: _needs(name, entry, outs) for name, entry in entries.items()}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise UserError(
            f"{path}: stages depend on each other in a cycle: {' -> '.join(error.args[1])}; break it"
        ) from error
    return [_stage(path, name, entries[name], needs[name], outs[name]) for name in order]


def _interpolated(pipeline: str, params: Path) -> str:
    """Replace each `${section.key}` in dvc.yaml by its value in params.yaml; DVC refuses those that have none."""
    values = yaml.safe_load(params.read_text(encoding="utf-8")) if params.is_file() else None

    def value(reference: re.Match[str]) -> str:
        item = values
        for name in reference[1].split("."):
            item = item.get(name) if isinstance(item, dict) else None
        return reference[0] if item is None else str(item)

    return re.sub(r"\$\{([\w.]+)\}", value, pipeline)


def up_to(stages: Iterable[Stage], name: str) -> list[Stage]:
    """The stage `name` and all stages that it needs, in order. Raises UserError for an unknown name."""
    by_name = {stage.name: stage for stage in stages}
    if name not in by_name:
        raise UserError(f"{name}: no such stage in dvc.yaml; expected one of {', '.join(by_name)}")
    needed, queue = set(), [name]
    while queue:
        needed.add(current := queue.pop())
        queue += by_name[current].needs
    return [stage for stage in by_name.values() if stage.name in needed]


def _stage(
    path: Path, name: str, entry: dict[str, Any], needs: tuple[str, ...], outs: tuple[str, ...]
) -> Stage:
    settings = entry.get("meta") or {}
    unknown = sorted(set(settings) - SETTINGS)
    if unknown:
        raise UserError(
            f"{path}: stage {name}: unknown meta key {unknown[0]}; expected one of {', '.join(sorted(SETTINGS))}"
        )
    return Stage(
        name=name,
        needs=needs,
        deps=_paths(entry, "deps"),
        metrics=_paths(entry, "metrics"),
        outs=outs,
        params=_paths(entry, "params"),
        **settings,
    )


def _needs(name: str, entry: dict[str, Any], outs: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    deps = _paths(entry, "deps")
    others = [other for other in outs if other != name]
    return tuple(other for other in others if any(_overlap(out, dep) for out in outs[other] for dep in deps))


def _outs(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(path for kind in ("outs", "metrics", "plots") for path in _paths(entry, kind))


def _paths(entry: dict[str, Any], kind: str) -> tuple[str, ...]:
    """The paths under the key `kind`; an item is a path, or a mapping from a path to its options."""
    return tuple(str(item if isinstance(item, str) else next(iter(item))) for item in entry.get(kind) or ())


def _overlap(first: str, second: str) -> bool:
    return PurePosixPath(first).is_relative_to(second) or PurePosixPath(second).is_relative_to(first)
