"""Report pages as a browser reads them."""

from html.parser import HTMLParser

VOID = {"meta", "img", "source", "br"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onfocus='alert(3)\u202e{{ 7 * 7 }}&lt;b&gt;</style></title>"
SHOWN = HOSTILE.replace("\u202e", r"\u202e")


class Page(HTMLParser):
    """Everything a browser would load, the visible text, and whether all tags are closed."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.alts: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text, self._open = "", []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        self.attributes |= {name for name, _ in attributes}
        for name, value in attributes:
            if name in ("src", "srcset", "href"):
                self.loads.append(value or "")
            if name == "alt":
                self.alts.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data


def assert_inert(text: str) -> None:
    """Check that a page shows HOSTILE labels as text, without their elements and attributes."""
    page = Page(text)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not any(name.startswith("on") for name in page.attributes)
    assert all(source.startswith("data:") for source in page.loads), "the image of the label"
    assert "\u202e" not in text
    assert SHOWN in page.text
    assert any(SHOWN in alt for alt in page.alts)
