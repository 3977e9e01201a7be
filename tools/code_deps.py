"""List the source files that each stage of dvc.yaml depends on: everything its module imports, directly or indirectly.

`make deps` writes them into dvc.yaml, so that a code change reruns exactly the stages that use the code.
`--check` writes nothing and exits with 1 if dvc.yaml is out of date.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

from metavox.code import closure, source_of

SOURCE = Path("src/metavox")
MARKER = f"{SOURCE}/"
# Weights that a stage may read but does not import; dvc.yaml lists them by hand.
BUNDLED_BASE = f"{SOURCE}/base"


def code_deps(module: str, source: Path = SOURCE) -> list[str]:
    """The files that the module imports, and the data files beside them (templates, weights) that they name.

    A folder replaces its files if all of them are needed.
    """
    used = {path for name in closure(module, source) if (path := source_of(name, source))}
    paths = {path for path in used if has_code(path)}
    named = {part for path in used for text in _strings(path) for part in text.split("/")}
    for folder in {path.parent for path in used} - {source}:
        paths |= _data(folder, named)
    for folder in sorted({path.parent for path in paths} - {source}):
        inside = {path for path in folder.rglob("*") if _counts(path)}
        if len(inside) > 1 and inside <= paths:
            paths = {path for path in paths if folder not in path.parents} | {folder}
    return sorted(map(str, paths))


def has_code(source: Path) -> bool:
    """Whether a source file contains more than a docstring."""
    return any(not isinstance(node, ast.Expr) for node in ast.parse(source.read_bytes()).body)


def _counts(path: Path) -> bool:
    if not path.is_file() or "__pycache__" in path.parts:
        return False
    return path.suffix != ".py" or has_code(path)


def _data(folder: Path, named: set[str]) -> set[Path]:
    """Data files of a package, and those in its data folders, if the name of the file or folder is in `named`."""
    found: set[Path] = set()
    for path in folder.iterdir():
        if path.name in named and path.is_dir() and not any(path.rglob("*.py")):
            found |= {file for file in path.rglob("*") if file.is_file()}
        elif path.name in named and path.is_file() and path.suffix != ".py":
            found.add(path)
    return found


def _strings(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def main() -> None:
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    target = Path("dvc.yaml")
    pipeline = yaml.load(target)
    changed = []
    for name, stage in pipeline["stages"].items():
        if not (SOURCE / "stages" / f"{name}.py").is_file():
            print(f"metavox: stage {name} has no src/metavox/stages/{name}.py; its list is unchanged")
            continue
        if str(SOURCE) in stage["deps"]:
            continue  # the stage package depends on all source files, because the bundle contains them
        manual = [dep for dep in stage["deps"] if not dep.startswith(MARKER) or dep == BUNDLED_BASE]
        deps = manual + code_deps(f"metavox.stages.{name}")
        if list(stage["deps"]) != deps:
            changed.append(name)
            stage["deps"].clear()
            stage["deps"].extend(deps)
    if not changed:
        return
    if "--check" in sys.argv:
        sys.exit(f"metavox: dvc.yaml: the source files of {', '.join(changed)} have changed; run make deps")
    yaml.dump(pipeline, target)
    print(f"metavox: dvc.yaml: updated the source files of {', '.join(changed)}")


if __name__ == "__main__":
    main()
