"""Which modules of metavox a module imports, directly or through others, and a digest of their code.

`tools/code_deps.py` writes what is found here into dvc.yaml, and `pipeline.artifacts.run_key` puts the digest into the key of a
checkpoint. Nothing is imported or run: imports are read from the source, those inside functions included and those under
`if TYPE_CHECKING` left out. A string that is the full name of a module counts as an import, because that is how
`recognisers.registry` names the kinds that it loads on demand.
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
# Modules that cannot change a result: the version, how errors read, how files are written, and the schema of parameters,
# whose values are dependencies of their own (`metavox stage` refuses a params.yaml that leaves a value to a default).
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
    """`module`, all that it imports and the packages that they lie in, without those in `NEUTRAL` and theirs.

    Raises ValueError when there is no such module in the folder `package`.
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
    """sha256 over the code of `closure(module)`; comments, docstrings and layout do not count."""
    total = hashlib.sha256()
    for name in sorted(closure(module, package)):
        total.update(f"{name} {_read(_existing(name, package).read_bytes()).digest}\n".encode())
    return total.hexdigest()


def direct_imports(module: str, package: Path = PACKAGE) -> set[str]:
    """Modules of the package that `module` itself imports, or names in a string."""
    source = _existing(module, package)
    inside = (module if source.name == "__init__.py" else module.rpartition(".")[0]).split(".")
    found = set()
    for level, name in _read(source.read_bytes()).names:
        if level:  # relative: one dot is the package that the module lies in
            name = ".".join([*inside[: len(inside) - level + 1], name])
        while (
            name and source_of(name, package) is None
        ):  # a function or class of the module before the last dot
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {"", module}


def source_of(module: str, package: Path = PACKAGE) -> Path | None:
    """The source file of a module of the package; None where there is none."""
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
    """What one source file says: names that it imports, each with its number of leading dots, and a digest of its code."""

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
        todo += [child for child in ast.iter_child_nodes(node) if not _for_types_alone(child)]
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return _Source(frozenset(names), hashlib.sha256(ast.dump(tree).encode()).hexdigest())


def _for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
