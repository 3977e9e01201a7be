"""Refuse file names that do not say what a module is about: generic ones, and words of our own instead of the field's terms.

python tools/file_names.py [FOLDER]     (the current folder by default)
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("src", "flows", "experiments", "benchmarks", "tests", "tools")
# They fit any content, so code of every kind collects in them.
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
# They made sense to their author alone; the standard terms are in docs/glossary.md.
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
    """Yield one line for each Python file or package under `root` whose name is refused."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            module = path.parent if path.name == "__init__.py" else path
            name = module.stem.removeprefix("_").removeprefix("test_")
            if name in PRIVATE:
                yield f"{path.relative_to(root)}: {name!r} is not a term of the field; {ADVICE}"
            elif name in GENERIC and not (path.name == "base.py" and defines_interface(path)):
                yield f"{path.relative_to(root)}: {name!r} fits any content; {ADVICE}"


def defines_interface(path: Path) -> bool:
    """Whether a module defines what others implement: a Protocol, an abstract class, or a type of functions."""
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
