"""Reads YAML files of grammars and actions, in which `on` and `off` are words, as in YAML 1.2, and checks what is in them."""

from pathlib import Path
from typing import Any

import yaml

from metavox.errors import UserError


class _Loader(yaml.SafeLoader):
    """Of YAML 1.1's booleans, true and false alone."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises UserError if it cannot be read."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error


def listed(value: Any, what: str, kind: type | tuple[type, ...] = (str, int, float)) -> list[Any]:
    """A list of values of a kind; nothing is an empty one. Raises UserError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise UserError(
            f"{what}: got {str(value)[:40]!r}; expected a list (lines that begin with a dash, or [...])"
        )
    if wrong := [one for one in value if not isinstance(one, kind)]:
        expected = "texts" if kind is not dict else "mappings such as {sentences: [...]}"
        raise UserError(f"{what}: got {str(wrong[0])[:40]!r}; expected {expected}")
    return value


def mapped(value: Any, what: str) -> dict[str, Any]:
    """A mapping; nothing is an empty one. Raises UserError for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{what}: got {str(value)[:40]!r}; expected a mapping (name: ...)")
    return value
