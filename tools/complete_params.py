"""Write every key that a params.yaml leaves out, with its default; what is there stays as it is, comments included.

    python tools/complete_params.py [FILE ...]     (params.yaml where none is named)

DVC tracks the values that the file holds. A key that is left out has a default in the code, which DVC does not see; that
is why `metavox stage` refuses such a file.
"""

import re
import sys
from pathlib import Path

from metavox.errors import UserError
from metavox.files import written_aside
from metavox.params import Params, load_params, missing_keys, read_values, yaml_value


def complete(path: Path) -> list[str]:
    """Write the missing keys of one file; their names. Raises UserError for a file that is not valid."""
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
                f"{path}: its sections are not indented blocks, so the missing keys were not written"
            )
    return list(missing)


def _same(params: Params, path: Path) -> bool:
    try:
        return load_params(path, complete=True) == params
    except UserError:
        return False


def _insert(lines: list[str], section: str, name: str, value: str) -> None:
    """Put a line at the end of its section, before the empty lines and comments that precede the next one."""
    if not section:
        lines.append(f"{name}: {value}")
        return
    head = next((number for number, line in enumerate(lines) if line.startswith(f"{section}:")), None)
    if head is None:
        lines += ["", f"{section}:"]
        head = len(lines) - 1
    end = head + 1
    for number in range(head + 1, len(lines)):
        if re.match(r"[^\s#]", lines[number]):
            break
        if lines[number].startswith(" ") and lines[number].strip():
            end = number + 1
    inside = lines[head + 1 : end]
    indent = inside[0][: len(inside[0]) - len(inside[0].lstrip())] if inside else "  "
    lines.insert(end, f"{indent}{name}: {value}")


def main() -> None:
    for path in map(Path, sys.argv[1:] or ["params.yaml"]):
        try:
            written = complete(path)
        except UserError as error:
            sys.exit(f"metavox: {error}")
        print(f"metavox: {path}: {', '.join(written) + ' written' if written else 'no key is missing'}")


if __name__ == "__main__":
    main()
