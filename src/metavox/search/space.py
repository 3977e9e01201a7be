"""Search spaces: which parameters are searched, and over which values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from metavox.errors import UserError
from metavox.params import Params

if TYPE_CHECKING:
    import optuna

Value = int | float | str | bool | None


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, integers if both are; with `log`, uniform in the logarithm."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: "optuna.Trial", name: str) -> Value:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def contains(self, value: Value) -> bool:
        """Whether the range can suggest `value`."""
        kinds = int if isinstance(self.low, int) and isinstance(self.high, int) else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    options: tuple[Value, ...]

    def suggest(self, trial: "optuna.Trial", name: str) -> Value:
        return trial.suggest_categorical(name, self.options)

    def contains(self, value: Value) -> bool:
        return value in self.options


Space = Mapping[str, Range | Choice]


def read_space(path: Path, params: Params) -> Space:
    """Read a YAML file with one parameter per line.

    A line is like `metatrain.inner_steps: {low: 1, high: 4}` or `metatrain.learner: [fomaml, reptile]`. Raises UserError
    for a name or value that params.yaml does not allow.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected lines such as `adapt.steps: {{low: 5, high: 80}}`")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not values:
        raise UserError(f"{path}: no parameter; expected lines such as `adapt.steps: {{low: 5, high: 80}}`")
    space = {str(name): _dimension(path, str(name), value) for name, value in values.items()}
    for name, dimension in space.items():
        values = dimension.options if isinstance(dimension, Choice) else (dimension.low, dimension.high)
        for value in values:
            with_values(params, {name: value})
    return space


def _dimension(path: Path, name: str, value: Any) -> Range | Choice:
    if isinstance(value, list) and len(value) > 1:
        return Choice(tuple(value))
    try:
        dimension = Range(**value)
        if dimension.low < dimension.high and (not dimension.log or dimension.low > 0):
            return dimension
    except TypeError:
        pass
    raise UserError(
        f"{path}: {name}: {value}; expected {{low: A, high: B}} with A below B, log: true only where A is above 0, or "
        "a list of at least two values"
    )


def with_values(params: Params, values: Mapping[str, Value]) -> Params:
    """The parameters with new `values` by dotted name. Raises UserError for a name or value that is not allowed."""
    changed = params.model_dump(by_alias=True)
    for name, value in values.items():
        section, _, key = name.partition(".")
        keys = changed.get(section)
        if not isinstance(keys, dict) or key not in keys:
            raise UserError(
                f"{name}: no such parameter; expected a name from params.yaml, such as adapt.steps"
            )
        keys[key] = value
    try:
        return Params.model_validate(changed)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{', '.join(f'{n} = {v}' for n, v in values.items())}: {first['msg']}") from error
