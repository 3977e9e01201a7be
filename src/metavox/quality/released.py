"""Rows that a person has looked at and taken out of the quarantine: `released.csv`, in git."""

from pathlib import Path

import pandas as pd

from metavox.errors import UserError
from metavox.files import written_aside

RELEASED = "released.csv"
COLUMNS = ["content", "path", "reasons", "because"]
NEVER = ("undecodable", "unmeasured")  # there is nothing to learn from
OF_A_ROW = ("contradiction", "duplicate")  # of two rows of one recording, a person releases one


class Released:
    """Looked up by the digest of the recording: one that was changed since has to be looked at again.

    A row is released from the checks that it had failed then, not from others that it fails now.
    """

    def __init__(self, table: pd.DataFrame | None) -> None:
        table = pd.DataFrame(columns=COLUMNS) if table is None else table
        self._checks: dict[str, dict[str, set[str]]] = {}
        for content, path, reasons in zip(table["content"], table["path"], table["reasons"], strict=True):
            if content:
                self._checks.setdefault(content, {})[path] = set(reasons.split("; ")) - set(NEVER)

    def among(self, table: pd.DataFrame, failed: dict[int, list[str]]) -> set[int]:
        """The numbers of the rows of `table` that were released, of those that `failed` these checks."""
        if not self._checks:
            return set()
        content, path = table["content"].to_dict(), table["path"].to_dict()
        return {row for row, checks in failed.items() if self._frees(content[row], path[row], checks)}

    def _frees(self, content: str, path: str, checks: list[str]) -> bool:
        known = self._checks.get(content, {})
        if any(check in OF_A_ROW for check in checks):
            return set(checks) <= known.get(path, set())
        return any(set(checks) <= released for released in known.values())


def read_released(path: Path) -> pd.DataFrame:
    """The rows of `released.csv`; none where there is no such file. Raises UserError when it is not one."""
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
    """Sorted, so that two people's releases merge, and the same ones give the same bytes."""
    with written_aside(path) as aside:
        table[COLUMNS].sort_values(["path", "content"]).to_csv(aside, index=False, lineterminator="\n")
