"""Releases: rows that a person reviewed and took out of quarantine, kept in git as `released.csv`."""

from pathlib import Path

import pandas as pd

from metavox.errors import UserError
from metavox.files import written_aside

RELEASED = "released.csv"
COLUMNS = ["content", "path", "reasons", "because"]
NOT_RELEASABLE = ("undecodable", "unmeasured")  # there is nothing to learn from
BY_PATH = ("contradiction", "duplicate")  # several rows share the recording, so its digest alone is ambiguous


class Released:
    """Releases by the digest of the recording: a recording that has changed since must be reviewed again.

    A release covers the checks that the row failed at the time, not others that it fails now.
    """

    def __init__(self, table: pd.DataFrame | None) -> None:
        table = pd.DataFrame(columns=COLUMNS) if table is None else table
        self._checks: dict[str, dict[str, set[str]]] = {}
        for content, path, reasons in zip(table["content"], table["path"], table["reasons"], strict=True):
            if content:
                self._checks.setdefault(content, {})[path] = set(reasons.split("; ")) - set(NOT_RELEASABLE)

    def among(self, table: pd.DataFrame, failed: dict[int, list[str]]) -> set[int]:
        """The released rows among those that `failed`: index of a row in `table` -> names of the checks it failed."""
        if not self._checks:
            return set()
        content, path = table["content"].to_dict(), table["path"].to_dict()
        return {row for row, checks in failed.items() if self._is_released(content[row], path[row], checks)}

    def _is_released(self, content: str, path: str, checks: list[str]) -> bool:
        released_by_path = self._checks.get(content, {})
        if any(check in BY_PATH for check in checks):
            return set(checks) <= released_by_path.get(path, set())
        return any(set(checks) <= released for released in released_by_path.values())


def read_released(path: Path) -> pd.DataFrame:
    """The rows of `released.csv`, none if there is no such file. Raises UserError for any other kind of file."""
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())}); expected a CSV") from error
    if list(table.columns) != COLUMNS:
        raise UserError(f"{path}: columns {','.join(table.columns)}; expected {','.join(COLUMNS)}")
    return table


def write_released(table: pd.DataFrame, path: Path) -> None:
    """Write the rows sorted, so that two people's releases merge in git and the same rows give the same bytes."""
    with written_aside(path) as aside:
        table[COLUMNS].sort_values(["path", "content"]).to_csv(aside, index=False, lineterminator="\n")
