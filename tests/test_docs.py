"""Links, anchors and the files that documents and code name exist, and every page can be reached from the README."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "metavox"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

CODE = re.compile(r"^```.*?^```|^ {4}.*?$", re.MULTILINE | re.DOTALL)  # blocks; links in them are not links
SPAN = re.compile(r"`[^`]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]*)\)")
HEADING = re.compile(r"^#{1,6} +(.*?)\s*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")  # a scheme, such as https: or mailto:


def links(page: Path) -> list[str]:
    """Targets of the links of a page that lead into the repository."""
    targets = LINK.findall(SPAN.sub("", CODE.sub("", page.read_text(encoding="utf-8"))))
    return [target for target in targets if not ELSEWHERE.match(target)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    seen: dict[str, int] = {}
    found = set()
    for heading in HEADING.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        count = seen.get(name, 0)
        seen[name] = count + 1
        found.add(f"{name}-{count}" if count else name)
    return found


def fault(page: Path, target: str) -> str | None:
    """What is wrong with a link of a page, or None."""
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.is_relative_to(ROOT) or not path.exists():
        return f"{target}: no such file in the repository"
    if anchor and (path.suffix != ".md" or anchor not in anchors(path)):
        return f"{target}: {path.name} has no heading with this anchor"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_anchors_resolve(page: Path) -> None:
    assert [found for target in links(page) if (found := fault(page, target))] == []


def test_pages_that_the_code_refers_to_exist() -> None:
    folders = ["src", "flows", "experiments", "benchmarks", "tools"]
    files = [
        file
        for folder in folders
        for file in (ROOT / folder).rglob("*")
        if file.suffix in {".py", ".sh", ".yaml"}
    ]
    files += [ROOT / "Makefile", *ROOT.glob("*.yaml")]
    named = {
        (str(file.relative_to(ROOT)), page)
        for file in files
        for page in re.findall(r"docs/[\w/-]+\.md", file.read_text(encoding="utf-8"))
    }
    assert [(file, page) for file, page in sorted(named) if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_source_files_and_packages_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"(?<![\w/.:-])(?:[\w-]+/)+[\w-]+\.py\b", text)
    packages = re.findall(r"\bmetavox\.([a-z_]+)\.[a-zA-Z_.]+", text) + re.findall(
        r"src/metavox/(\w+)/", text
    )
    missing = [name for name in files if not any((root / name).is_file() for root in (ROOT, PACKAGE))]
    missing += [
        name for name in packages if not any((PACKAGE / f"{name}{end}").exists() for end in ("", ".py"))
    ]
    old_layout = {"corpus"} if "git show 32721ee:" in text else set()  # a path at an older commit
    assert sorted(set(missing) - old_layout) == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        waiting += [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
    assert set(PAGES) - reached == set()


def test_the_check_reports_a_missing_file_and_a_missing_anchor(tmp_path: Path) -> None:
    readme = ROOT / "README.md"
    assert fault(readme, "docs/no-such-page.md") is not None
    assert fault(readme, "#no-such-heading") is not None
    assert fault(readme, "../outside.md") is not None
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three?\n\n## Same\n\n## Same\n\n```\n# not a heading\n```\n", encoding="utf-8"
    )
    assert anchors(page) == {"one-two-three", "same", "same-1"}
