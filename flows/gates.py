"""Gates: a stage's own metrics decide whether the pipeline goes on."""

import json
from pathlib import Path
from typing import Any

from flows.project import Stage
from metavox.errors import UserError


class GateClosed(UserError):
    """A stage ran well, and its result says: no further."""


def read_metrics(project: Path, stage: Stage) -> dict[str, Any]:
    """The stage's metrics files as one mapping; empty when it has none."""
    values: dict[str, Any] = {}
    for name in stage.metrics:
        try:
            values |= json.loads((project / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{stage.name}: {name} cannot be read as metrics: {error}; run the stage again"
            ) from error
    return values


def check_gate(project: Path, stage: Stage) -> None:
    """Raise GateClosed unless the value that the stage's gate names is true."""
    if stage.gate is None:
        return
    metrics = read_metrics(project, stage)
    verdict = lookup(metrics, stage.gate)
    if verdict is True:
        return
    why = lookup(metrics, stage.because) if stage.because else None
    reason = ", ".join(map(str, why)) if isinstance(why, list) else why
    raise GateClosed(
        f"{stage.name}: gate closed: {stage.gate} is {json.dumps(verdict)} in {', '.join(stage.metrics)}"
        + (f" ({reason})" if reason else "")
    )


def lookup(values: dict[str, Any], dotted: str) -> Any:
    """The value at a dotted key, None where there is none."""
    found: Any = values
    for key in dotted.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def scalars(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Numbers, flags and words of a nested mapping, under dotted keys; lists are left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= scalars(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            flat[f"{prefix}{key}"] = value
    return flat
