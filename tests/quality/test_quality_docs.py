"""The expectations page shows every check and its result, and nothing that a browser would fetch or run."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from prepared_rows import LIMITS, good_rows, planted

from metavox.quality import judge
from metavox.quality.docs import sanitise
from metavox.stages.validate import write_docs

EVIL = {
    1: {"text": "<script>alert(1)</script>"},
    2: {"text": "<img src=//example.org/a.png onerror=alert(1)>"},
    3: {"text": "two\x07"},
    4: {"language": "https://example.org", "speaker": "<b>speaker-0</b>"},
    5: {"split": "<link href=//example.org/b.css>"},
    6: {"clipping": 0.25},
}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("docs") / "expectations.html"
    write_docs(judge(planted(EVIL), LIMITS), path)
    return Page(path.read_text(encoding="utf-8"))


def test_page_fetches_and_runs_nothing(page: Page) -> None:
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "a", "b", "object", "base", "form"})
    assert page.attributes <= {"class", "lang", "charset", "hidden", "name", "content"}
    assert not any("url(" in text or "@import" in text for text in page.texts)


def test_page_shows_every_check_with_its_result(page: Page) -> None:
    shown = [text.strip() for text in page.texts]
    for check in (
        "rows present",
        "undecodable",
        "clipping",
        "speaker group on one split",
        "test speakers",
        "label share",
    ):
        assert check in shown, check
    assert "<script>alert(1)</script>" in shown
    assert "0.25" in shown
    assert {"warn", "stop", "quarantine"} <= set(shown)
    assert any("splits known: split <link" in text for text in page.texts)
    assert any("values must be less than or equal to" in text for text in page.texts)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_docs(judge(planted(EVIL), LIMITS), tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_table_with_a_missing_column_has_a_page_too(tmp_path: Path) -> None:
    write_docs(judge(good_rows().drop(columns="error"), LIMITS), tmp_path / "e.html")
    text = (tmp_path / "e.html").read_text()
    assert "has no column error" in text
    assert "table: 1 of 2 expectations met" in text


def test_sanitising_keeps_plain_elements_only() -> None:
    html = '<a href="http://h/"><td class="x" id="y" onclick="z()">1 &lt; 2</td></a><script>bad()</script><img src=u>'
    assert sanitise(html) == '<td class="x">1 &lt; 2</td>'


def test_observed_values_are_shown(tmp_path: Path) -> None:
    write_docs(judge(planted({row: {"clipping": 0.25} for row in range(3)}), LIMITS), tmp_path / "e.html")
    shown = Page((tmp_path / "e.html").read_text(encoding="utf-8")).texts
    at = next(index for index, text in enumerate(shown) if text.strip() == "share quarantined")
    assert "0.02" in [text.strip() for text in shown[at : at + 30]]
