"""What is done when a command is understood: a Python function or a webhook for each intent.

An action file is YAML: `INTENT: {python: module:function}` or `INTENT: {webhook: URL}`. A function is called with the
slots as keyword arguments; a webhook gets a POST with the command as JSON. Nothing is done unless the caller asks.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metavox.errors import UserError
from metavox.recognition.commands import Command
from metavox.recognition.yaml_files import read_yaml

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Action:
    """A function `module:function` or the URL of a webhook."""

    kind: str
    target: str

    def describe(self, command: Command) -> str:
        """What `run` would do, on one line."""
        if self.kind == "webhook":
            return f"POST {self.target} {command.as_dict()}"
        return f"{self.target}({', '.join(f'{name}={value!r}' for name, value in command.slots.items())})"

    def run(self, command: Command) -> str:
        """Do it, and return what came back. Raises UserError if it fails."""
        return self._post(command) if self.kind == "webhook" else self._call(command)

    def _post(self, command: Command) -> str:
        import httpx

        try:
            answer = httpx.post(self.target, json=command.as_dict(), timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UserError(
                f"webhook {self.target}: {error or type(error).__name__}; is it running?"
            ) from error
        if answer.is_error:
            raise UserError(f"webhook {self.target}: answered {answer.status_code}; see its own log")
        return str(answer.status_code)

    def _call(self, command: Command) -> str:
        module, _, name = self.target.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise UserError(f"action {self.target}: {error}; is it on PYTHONPATH?") from error
        try:
            return repr(function(**{str(name): value for name, value in command.slots.items()}))
        except Exception as error:  # whatever the user's own function raises
            raise UserError(f"action {self.target}: {type(error).__name__}: {error}") from error


def load_actions(path: Path, intents: tuple[str, ...]) -> Mapping[str, Action]:
    """Read an action file. Raises UserError for a broken one, and for an intent that the grammar lacks."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected lines such as `INTENT: {{webhook: URL}}`")
    return {str(intent): _action(path, str(intent), body, intents) for intent, body in content.items()}


def _action(path: Path, intent: str, body: Any, intents: tuple[str, ...]) -> Action:
    if intent not in intents:
        raise UserError(f"{path}: no intent {intent!r} in the grammar; expected one of {', '.join(intents)}")
    if isinstance(body, dict) and len(body) == 1:
        ((kind, target),) = body.items()
        valid = (kind == "python" and ":" in str(target)) or (
            kind == "webhook" and str(target).startswith(("http://", "https://"))
        )
        if valid:
            return Action(str(kind), str(target))
    raise UserError(
        f"{path}: {intent}: got {body!r}; expected {{python: module:function}} or {{webhook: URL}}"
    )
