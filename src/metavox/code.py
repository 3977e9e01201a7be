"""The modules of metavox that a module imports, directly or indirectly, and a digest of their code.

`tools/code_deps.py` writes these modules into dvc.yaml, and `pipeline.artifacts.run_key` makes the digest part of the key
of a checkpoint. Nothing is imported or run. Imports are read from the source, including those inside functions and
excluding those under `if TYPE_CHECKING`. A string that is the full name of a module counts as an import, because
`recognisers.registry` names the kinds that it loads on demand in this way.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
FULL_NAME = re.compile(r"[a-z_]\w*(\.\w+)+")
# Modules that cannot change a result: the version, the wording of errors, the writing of files, and the schema of the
# parameters. Their values are dependencies themselves: `metavox stage` refuses a params.yaml that lacks a key.
NEUTRAL = frozenset(
    {
        "metavox",
        "metavox.code",
        "metavox.errors",
        "metavox.files",
        "metavox.old_names",
        "metavox.params",
        "metavox.telemetry",
    }
)


def closure(module: str, package: Path = PACKAGE) -> frozenset[str]:
    """`module`, everything that it imports, and the packages that contain these modules, except through `NEUTRAL`.

    Raises ValueError when the folder `package` has no such module.
    """
    if source_of(module, package) is None:
        raise ValueError(f"{module}: expected a module in {package}")
    found: set[str] = set()
    todo = [module]
    while todo:
        current = todo.pop()
        if current not in found and current not in NEUTRAL:
            found.add(current)
            todo += direct_imports(current, package) | set(_parents(current))
    return frozenset(found)


def code_digest(module: str, package: Path = PACKAGE) -> str:
    """SHA-256 of the code of `closure(module)`, regardless of comments, docstrings and layout."""
    total = hashlib.sha256()
    for name in sorted(closure(module, package)):
        total.update(f"{name} {_read(_existing(name, package).read_bytes()).digest}\n".encode())
    return total.hexdigest()


def direct_imports(module: str, package: Path = PACKAGE) -> set[str]:
    """The modules of the package that `module` itself imports or names in a string."""
    source = _existing(module, package)
    inside = (module if source.name == "__init__.py" else module.rpartition(".")[0]).split(".")
    found = set()
    for level, name in _read(source.read_bytes()).names:
        if level:  # relative: one dot stands for the package that contains the module
            name = ".".join([*inside[: len(inside) - level + 1], name])
        # What follows the module's name is a function or class in it.
        while name and source_of(name, package) is None:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {"", module}


def source_of(module: str, package: Path = PACKAGE) -> Path | None:
    """The source file of a module of the package; None if it does not exist."""
    first, *rest = module.split(".")
    if first != package.name:
        return None
    path = package.joinpath(*rest)
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def _existing(module: str, package: Path) -> Path:
    source = source_of(module, package)
    if source is None:
        raise ValueError(f"{module}: expected a module in {package}")
    return source


def _parents(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


@dataclass(frozen=True)
class _Source:
    """The contents of one source file: imported names, each with its number of leading dots, and a digest of the code."""

    names: frozenset[tuple[int, str]]
    digest: str


@cache
def _read(source: bytes) -> _Source:
    tree = ast.parse(source)
    names: set[tuple[int, str]] = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names.update((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = f"{node.module}." if node.module else ""
            names.update((node.level, f"{origin}{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and FULL_NAME.fullmatch(node.value)
        ):
            names.add((0, node.value))
        todo += [child for child in ast.iter_child_nodes(node) if not _is_type_checking(child)]
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return _Source(frozenset(names), hashlib.sha256(ast.dump(tree).encode()).hexdigest())


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
