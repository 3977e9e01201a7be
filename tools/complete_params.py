"""Add every key that a params.yaml lacks, with its default. Existing lines and comments stay unchanged.

    python tools/complete_params.py [FILE ...]     (params.yaml by default)

DVC tracks only the values in the file, not the defaults in the code, so `metavox stage` refuses an incomplete file.
"""

import re
import sys
from pathlib import Path

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.params import Params, load_params, missing_keys, read_values, yaml_value


def complete(path: Path) -> list[str]:
    """Add the missing keys to one file and return their names. Raises UserError for an invalid file."""
    before = load_params(path)
    missing = missing_keys(read_values(path), before)
    lines = path.read_text(encoding="utf-8").splitlines()
    for key, default in missing.items():
        section, _, name = key.rpartition(".")
        _insert(lines, section, name, yaml_value(default))
    with written_aside(path) as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if not _same(before, aside):
            raise UserError(
                f"{path}: expected sections as indented blocks; add the missing keys by hand: {', '.join(missing)}"
            )
    return list(missing)


def _same(params: Params, path: Path) -> bool:
    try:
        return load_params(path, complete=True) == params
    except UserError:
        return False


def _insert(lines: list[str], section: str, name: str, value: str) -> None:
    """Insert a line at the end of its section, before the empty lines and comments that precede the next section."""
    if not section:
        lines.append(f"{name}: {value}")
        return
    head = next((index for index, line in enumerate(lines) if line.startswith(f"{section}:")), None)
    if head is None:
        lines += ["", f"{section}:"]
        head = len(lines) - 1
    end = head + 1
    for index in range(head + 1, len(lines)):
        if re.match(r"[^\s#]", lines[index]):
            break
        if lines[index].startswith(" ") and lines[index].strip():
            end = index + 1
    inside = lines[head + 1 : end]
    indent = inside[0][: len(inside[0]) - len(inside[0].lstrip())] if inside else "  "
    lines.insert(end, f"{indent}{name}: {value}")


def main() -> None:
    for path in map(Path, sys.argv[1:] or ["params.yaml"]):
        try:
            added = complete(path)
        except UserError as error:
            sys.exit(f"metavox: {error}")
        print(f"metavox: {path}: {'added ' + ', '.join(added) if added else 'no key is missing'}")


if __name__ == "__main__":
    main()
