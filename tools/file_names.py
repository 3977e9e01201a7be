"""Reject module names that do not say what the module defines: generic names, and words that are not the field's terms.

    python tools/file_names.py [FOLDER]     (the current folder by default)

Prints a line for each rejected name, and exits with 1 if there is any.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("src", "flows", "experiments", "benchmarks", "tests", "tools")
# Names that fit any content, so that unrelated code accumulates under them.
GENERIC = frozenset(
    {
        "base",
        "common",
        "core",
        "helper",
        "helpers",
        "lib",
        "misc",
        "stuff",
        "things",
        "util",
        "utils",
        "various",
    }
)
# Names that only their author understood; the standard terms are in docs/glossary.md.
PRIVATE = frozenset(
    {
        "hearing",
        "listening",
        "places",
        "quiet",
        "screen",
        "settling",
        "stale",
        "symptoms",
        "taking",
        "tiny",
        "told",
        "tuned",
        "watched",
    }
)
ADVICE = "name it after what it defines, in the terms of docs/glossary.md"


def faults(root: Path) -> Iterator[str]:
    """Yield one line for each Python file or package under `root` whose name is rejected."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            module = path.parent if path.name == "__init__.py" else path
            name = module.stem.removeprefix("_").removeprefix("test_")
            if name in PRIVATE:
                yield f"{path.relative_to(root)}: {name!r} is not a term of the field; {ADVICE}"
            elif name in GENERIC and not (path.name == "base.py" and defines_interface(path)):
                yield f"{path.relative_to(root)}: {name!r} fits any content; {ADVICE}"


def defines_interface(path: Path) -> bool:
    """Whether a module defines an interface: a Protocol, an abstract class, or a type of functions."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & {
            "ABC",
            "Protocol",
        }:
            return True
        if isinstance(node, ast.Raise) and node.exc and ast.unparse(node.exc) == "NotImplementedError":
            return True
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Callable["):
            return True
    return False


def main() -> None:
    lines = list(faults(Path(sys.argv[1]) if len(sys.argv) > 1 else Path()))
    for line in lines:
        print(f"metavox: {line}", file=sys.stderr)
    sys.exit(int(bool(lines)))


if __name__ == "__main__":
    main()
