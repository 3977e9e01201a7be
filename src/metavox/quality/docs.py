"""The results of a verdict, rendered by Great Expectations, as data for one HTML page.

Great Expectations' own pages load styles and scripts from other hosts and copy a manifest's texts into tables without
escaping them. Only plain elements of what it renders are kept.
"""

import copy
from html import escape
from html.parser import HTMLParser
from typing import Any

from metavox.quality.verdict import Verdict

DESCRIPTIONS = {
    "table": "The table has rows and all required columns.",
    "recordings": "Checks of each recording; a recording that fails goes to quarantine.",
    "set": "Checks of the whole set of recordings.",
    "trusted": "Checks of the recordings that remain after quarantine.",
}
ALLOWED_TAGS = frozenset(
    ("div", "span", "p", "br", "strong", "i", "code", "pre", "table", "thead", "tbody", "tr", "th", "td")
)
REMOVED_TAGS = ("script", "style")  # with their contents


def expectations(verdict: Verdict) -> dict[str, Any]:
    """The data for expectations.html: the suites and their results. The same verdict gives the same data."""
    return {
        "statistics": verdict.statistics,
        "failed": verdict.failed,
        "warnings": verdict.warnings,
        "suites": [_suite(report) for report in verdict.reports],
    }


def _suite(report: Any) -> dict[str, Any]:
    """One suite. `table` is safe HTML: the name of each check, then the cells that Great Expectations renders."""
    from great_expectations.render import RenderedTableContent
    from great_expectations.render.view import DefaultJinjaComponentView

    consequence = "quarantine" if report.suite_name == "recordings" else "stop"
    rows = [
        [result.expectation_config.meta["check"], _consequence(result, consequence), *_cells(result)]
        for result in report.results
    ]
    header = ["Check", "If not met", "Status", "Expectation", "Observed"]
    table = RenderedTableContent(table=sorted(rows, key=lambda row: row[0]), header_row=header)
    html = DefaultJinjaComponentView().render({"content_block": table.to_json_dict()})
    return {
        "name": report.suite_name,
        "met": report.statistics["successful_expectations"],
        "count": report.statistics["evaluated_expectations"],
        "about": DESCRIPTIONS[report.suite_name],
        "table": sanitise(html),
    }


def _consequence(result: Any, otherwise: str) -> str:
    return "warn" if result.expectation_config.severity == "warning" else otherwise


def _cells(result: Any) -> list[Any]:
    """Status, expectation and observed value, as Great Expectations renders them."""
    from great_expectations.render.renderer.content_block import ValidationResultsTableContentBlockRenderer

    result = copy.copy(result)
    result.result = {name: _renderable(value) for name, value in result.result.items()}
    rendered: Any = ValidationResultsTableContentBlockRenderer.render([result])
    return list(rendered.to_json_dict()["table"][0])


def _renderable(value: Any) -> Any:
    """Python numbers, which the renderers require, in place of NumPy's; strings escaped for HTML."""
    if isinstance(value, dict):
        return {name: _renderable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_renderable(item) for item in value]
    if isinstance(value, str):
        return escape(value if value.isprintable() else repr(value))
    return value.item() if hasattr(value, "item") else value


def sanitise(html: str) -> str:
    """The text, tables and other harmless elements of `html`, with their classes; no script, link, handler or id."""
    parser = _Sanitiser()
    parser.feed(html)
    parser.close()
    return "\n".join(line.strip() for line in "".join(parser.parts).splitlines() if line.strip())


class _Sanitiser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._removed_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in REMOVED_TAGS:
            self._removed_depth += 1
        elif tag in ALLOWED_TAGS:
            classes = next(
                (f' class="{escape(value)}"' for name, value in attrs if name == "class" and value), ""
            )
            hidden = " hidden" if ("hidden", None) in attrs else ""
            self.parts.append(f"<{tag}{classes}{hidden}>")

    def handle_endtag(self, tag: str) -> None:
        if tag in REMOVED_TAGS:
            self._removed_depth = max(0, self._removed_depth - 1)
        elif tag in ALLOWED_TAGS and tag != "br":
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._removed_depth:
            self.parts.append(escape(data))
