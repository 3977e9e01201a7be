"""Great Expectations' documentation of a verdict, as the data of one page.

The pages of Great Expectations load styles and scripts from other hosts, and copy a manifest's texts into their tables
without escaping. So only plain elements are kept of what it renders.
"""

import copy
from html import escape
from html.parser import HTMLParser
from typing import Any

from metavox.quality.verdict import Verdict

ABOUT = {
    "table": "The table has rows and all required columns.",
    "recordings": "Checks of each recording; one that fails goes to quarantine.",
    "set": "Checks of the whole set of recordings.",
    "trusted": "Checks of the recordings that remain after quarantine.",
}
KEPT = frozenset(
    ("div", "span", "p", "br", "strong", "i", "code", "pre", "table", "thead", "tbody", "tr", "th", "td")
)
DROPPED = ("script", "style")  # with what is in them


def expectations(verdict: Verdict) -> dict[str, Any]:
    """The data of expectations.html: the suites and their results. The same verdict gives the same page."""
    return {
        "statistics": verdict.statistics,
        "failed": verdict.failed,
        "warnings": verdict.warnings,
        "suites": [_suite(report) for report in verdict.reports],
    }


def _suite(report: Any) -> dict[str, Any]:
    """One suite; `table` is safe HTML: Great Expectations' cells after the name of the check."""
    from great_expectations.render import RenderedTableContent
    from great_expectations.render.view import DefaultJinjaComponentView

    effect = "quarantine" if report.suite_name == "recordings" else "stop"
    rows = [
        [result.expectation_config.meta["check"], _effect(result, effect), *_cells(result)]
        for result in report.results
    ]
    header = ["Check", "If not met", "Status", "Expectation", "Observed"]
    table = RenderedTableContent(table=sorted(rows, key=lambda row: row[0]), header_row=header)
    html = DefaultJinjaComponentView().render({"content_block": table.to_json_dict()})
    return {
        "name": report.suite_name,
        "met": report.statistics["successful_expectations"],
        "count": report.statistics["evaluated_expectations"],
        "about": ABOUT[report.suite_name],
        "table": plain(html),
    }


def _effect(result: Any, effect: str) -> str:
    return "warn" if result.expectation_config.severity == "warning" else effect


def _cells(result: Any) -> list[Any]:
    """Status, expectation and observed value, as Great Expectations shows them."""
    from great_expectations.render.renderer.content_block import ValidationResultsTableContentBlockRenderer

    result = copy.copy(result)
    result.result = {name: _shown(value) for name, value in result.result.items()}
    rendered: Any = ValidationResultsTableContentBlockRenderer.render([result])
    return list(rendered.to_json_dict()["table"][0])


def _shown(value: Any) -> Any:
    """Numbers as Python's, which is what the renderers take; texts as a page shows them."""
    if isinstance(value, dict):
        return {name: _shown(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shown(part) for part in value]
    if isinstance(value, str):
        return escape(value if value.isprintable() else repr(value))
    return value.item() if hasattr(value, "item") else value


def plain(html: str) -> str:
    """Only what has no effect outside of it: text, tables and the like, and their classes."""
    parser = _Plain()
    parser.feed(html)
    parser.close()
    return "\n".join(line.strip() for line in "".join(parser.parts).splitlines() if line.strip())


class _Plain(HTMLParser):
    """Only plain elements and their classes; no script, link, handler, or id."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in DROPPED:
            self._inside += 1
        elif tag in KEPT:
            classes = next(
                (f' class="{escape(value)}"' for name, value in attrs if name == "class" and value), ""
            )
            hidden = " hidden" if ("hidden", None) in attrs else ""
            self.parts.append(f"<{tag}{classes}{hidden}>")

    def handle_endtag(self, tag: str) -> None:
        if tag in DROPPED:
            self._inside = max(0, self._inside - 1)
        elif tag in KEPT and tag != "br":
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.parts.append(escape(data))
