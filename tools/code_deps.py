"""Which source files each stage of dvc.yaml depends on: what its module imports, and what that imports.

`make deps` writes them into dvc.yaml, so that a change of code reruns the stages that use it and no others.
`--check` only says whether dvc.yaml is as it would be written, and exits with 1 when it is not.
"""

import sys
from pathlib import Path

import grimp
from ruamel.yaml import YAML

SOURCE = Path("src/metavox")
# What these hold cannot change a result: values of parameters are dependencies of their own.
NEUTRAL = {"metavox.errors", "metavox.files", "metavox.params", "metavox.quiet"}
MARKER = f"{SOURCE}/"


def code_deps(graph: grimp.ImportGraph, stage: str) -> list[str]:
    """Files that the stage's module reaches; a folder where it reaches all that is in it."""
    module = f"metavox.stages.{stage}"
    used = {module, *graph.find_upstream_modules(module)} - NEUTRAL
    paths = {path for name in used if (path := _file(name)).name != "__init__.py" or path.read_text().strip()}
    for folder in sorted({path.parent for path in paths}):
        inside = {path for path in folder.rglob("*.py") if path.name != "__init__.py"}
        if len(inside) > 1 and folder != SOURCE and inside <= paths:
            paths = {path for path in paths if folder not in path.parents} | {folder}
    return sorted(map(str, paths))


def _file(module: str) -> Path:
    path = Path("src", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def main() -> None:
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    target = Path("dvc.yaml")
    pipeline = yaml.load(target)
    graph = grimp.build_graph("metavox", cache_dir=None)
    changed = []
    for name, stage in pipeline["stages"].items():
        if not (SOURCE / "stages" / f"{name}.py").is_file():
            print(f"metavox: no src/metavox/stages/{name}.py yet; left as it is")
            continue
        if str(SOURCE) in stage["deps"]:
            continue  # all of it, as package does, which puts it into the bundle
        wanted = [dep for dep in stage["deps"] if not dep.startswith(MARKER)] + code_deps(graph, name)
        if list(stage["deps"]) != wanted:
            changed.append(name)
            stage["deps"].clear()
            stage["deps"].extend(wanted)
    if not changed:
        return
    if "--check" in sys.argv:
        sys.exit(f"metavox: dvc.yaml: source files of {', '.join(changed)} have changed: make deps")
    yaml.dump(pipeline, target)
    print(f"metavox: dvc.yaml: source files of {', '.join(changed)} written")


if __name__ == "__main__":
    main()
