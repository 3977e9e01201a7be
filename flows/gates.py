"""Gates: a stage's own metrics decide whether the pipeline continues."""

import json
from pathlib import Path
from typing import Any

from flows.project import Stage
from metavox.errors import UserError


class GateClosed(UserError):
    """A stage succeeded, but its metrics stop the pipeline."""


def read_metrics(project: Path, stage: Stage) -> dict[str, Any]:
    """Merge the stage's metrics files into one mapping, empty if it has none. Raises UserError if one is unreadable."""
    values: dict[str, Any] = {}
    for name in stage.metrics:
        try:
            values |= json.loads((project / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{stage.name}: {name} cannot be read as metrics ({error}); run the stage again"
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
    reasons = lookup(metrics, stage.because) if stage.because else None
    reason = ", ".join(map(str, reasons)) if isinstance(reasons, list) else reasons
    raise GateClosed(
        f"{stage.name}: gate closed: {stage.gate} is {json.dumps(verdict)} in {', '.join(stage.metrics)}"
        + (f" ({reason})" if reason else "")
    )


def lookup(values: dict[str, Any], dotted: str) -> Any:
    """The value at a dotted key, or None."""
    value: Any = values
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def scalars(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten the numbers, booleans and strings of a nested mapping to dotted keys; lists are omitted."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= scalars(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            flat[f"{prefix}{key}"] = value
    return flat
