"""Which code a stage depends on: the imports that Python would follow, and a digest that wording does not change."""

import re
from pathlib import Path

import grimp
import pytest

from metavox.code import NEUTRAL, closure, code_digest, direct_imports, source_of
from tools.code_deps import code_deps

STAGES = ("prepare", "validate", "augment", "pretrain", "metatrain", "adapt", "evaluate", "package")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of modules that import each other in every way that Python knows."""
    sources = {
        "__init__": '"""The package."""\n',
        "train": '"""Training."""\nfrom typing import TYPE_CHECKING\n\nimport small.used\nfrom small.part import one\n\n'
        "if TYPE_CHECKING:\n    from small import hints\n\n\n"
        "def run():\n    from small.late import work\n    return work, one, small.used\n",
        "used": "VALUE = 1\n",
        "late": "def work():\n    return KINDS\n\n\nKINDS = {'a': 'small.part.named'}\n",
        "hints": "Hint = int\n",
        "unrelated": "import small.used\n\nVALUE = 2\n",
        "part/__init__": "from . import beside\nfrom .one import run as one\n",
        "part/one": "from ..deep import VALUE as run\n",
        "part/beside": "",
        "part/named": "",
        "deep": "VALUE = 3\n",
    }
    for name, text in sources.items():
        path = tmp_path / "small" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "small"


def test_every_way_to_import_a_module_is_followed(package: Path) -> None:
    parts = {"small.part", "small.part.one", "small.part.beside", "small.part.named"}
    found = closure("small.train", package)
    assert found == {"small", "small.train", "small.used", "small.late", "small.deep", *parts}


@pytest.mark.parametrize("name", ["train", "used", "late", "deep", "part/__init__", "part/named"])
def test_a_change_of_imported_code_changes_the_digest(package: Path, name: str) -> None:
    before = code_digest("small.train", package)
    with (package / f"{name}.py").open("a") as file:
        file.write("\nOTHER = 4\n")
    assert code_digest("small.train", package) != before


def test_unrelated_code_and_rewording_do_not_change_the_digest(package: Path) -> None:
    before = code_digest("small.train", package)
    (package / "unrelated.py").write_text("VALUE = 5\n")
    (package / "hints.py").write_text("Hint = str\n")
    (package / "used.py").write_text('"""What is used."""\n\n# Why it is one.\nVALUE = (\n    1\n)\n')
    assert code_digest("small.train", package) == before
    assert code_digest("small.unrelated", package) != before


def test_a_missing_module_is_refused(package: Path) -> None:
    with pytest.raises(ValueError, match=r"small\.missing: expected a module in"):
        closure("small.missing", package)


def test_dvc_depends_on_modules_with_code_and_on_data_that_they_name(package: Path) -> None:
    (package / "part/named.py").write_text('FOLDER = "pages"\n')
    (package / "part/pages").mkdir()
    (package / "part/pages/page.html").write_text("<p>")
    (package / "part/notes.txt").write_text("for nobody")
    files = ["deep.py", "late.py", "part/__init__.py", "part/named.py", "part/one.py", "part/pages/page.html"]
    files += ["train.py", "used.py"]
    assert code_deps("small.train", package) == [str(package / name) for name in files]
    (package / "part/notes.txt").unlink()
    whole = ["deep.py", "late.py", "part", "train.py", "used.py"]
    assert code_deps("small.train", package) == [str(package / name) for name in whole]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("metavox", cache_dir=None, exclude_type_checking_imports=True)


def test_imports_are_those_that_grimp_finds_and_those_named_in_strings(graph: grimp.ImportGraph) -> None:
    for module in graph.modules:
        by_grimp, found = graph.find_modules_directly_imported_by(module), direct_imports(module)
        assert by_grimp <= found, module
        source = source_of(module)
        assert source is not None
        text = source.read_text()
        assert all(re.search(rf"[\"']{re.escape(name)}", text) for name in found - by_grimp), module


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_modules_that_grimp_finds(graph: grimp.ImportGraph, stage: str) -> None:
    module = f"metavox.stages.{stage}"
    reached, todo = set(), [module]
    while todo:  # neutral modules are not followed either
        todo += graph.find_modules_directly_imported_by(todo.pop()) - NEUTRAL - reached
        reached |= set(todo)
    assert reached <= closure(module)


def test_the_kinds_that_are_loaded_on_demand_are_followed() -> None:
    kinds = {f"metavox.recognisers.{kind}" for kind in ("conformer.kind", "whisper", "ctc")}
    assert kinds <= closure("metavox.stages.adapt")
    assert not any(name.startswith("metavox.recognisers") for name in closure("metavox.stages.prepare"))
