"""Great Expectations' documentation of a verdict as one page: its own renderers, and nothing to fetch.

Its pages load style and scripts from other hosts; and what a manifest holds, a tag in a text too, goes into its
tables as it is. So only plain elements are taken from what it renders, and the style is a few lines here.
"""

import copy
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from metavox.files import written_aside
from metavox.quality.verdict import Fault, Verdict

ABOUT = {
    "table": "Before anything else: the table has its columns and rows.",
    "recordings": "Of each recording; one that fails goes to the quarantine.",
    "set": "Of all recordings, how the set was put together.",
    "trusted": "Of the recordings that are left to learn from.",
}
KEPT = frozenset(
    ("div", "span", "p", "br", "strong", "i", "code", "pre", "table", "thead", "tbody", "tr", "th", "td")
)
DROPPED = ("script", "style")  # with what is in them
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; width: 100%; margin: .5em 0; }
th, td { text-align: left; vertical-align: top; padding: .3em .6em; border-bottom: 1px solid #ddd; }
td table { width: auto; font-size: 90%; } td table td, td table th { border: 0; padding: .1em 1em .1em 0; }
td { overflow-wrap: anywhere; } thead[hidden] { display: none; }
.badge { background: #eee; border-radius: .3em; padding: 0 .3em; }
.text-success::before { content: "\\2713"; color: #080; } .text-danger::before { content: "\\2717"; color: #b00; }
.fault { color: #b00; } .warning { color: #850; }
"""


def write_docs(verdict: Verdict, path: Path) -> None:
    """The suites and their results; the same verdict gives the same bytes."""
    found = verdict.statistics
    lines = [
        "<h1>What the quality gate expects, and what it found</h1>",
        f"<p>{found['rows']} recordings: {found['clean']} clean, {found['quarantined']} quarantined, "
        f"{found['released']} released by a person.</p>",
        *_told("The pipeline stops", "fault", verdict.failed),
        *_told("To know", "warning", verdict.warnings),
        *(_suite(report) for report in verdict.reports),
    ]
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Expectations</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(lines) + "\n</body>\n</html>\n"
    )
    with written_aside(path) as aside:
        aside.write_text(page, encoding="utf-8")


def _told(title: str, kind: str, faults: list[Fault]) -> list[str]:
    items = [f'<li class="{kind}">{escape(f"{fault.name}: {fault.explanation}")}</li>' for fault in faults]
    return [f"<h2>{title}</h2><ul>", *items, "</ul>"] if items else []


def _suite(report: Any) -> str:
    """A table of one suite: Great Expectations' cells, the name of the check before them."""
    from great_expectations.render import RenderedTableContent
    from great_expectations.render.view import DefaultJinjaComponentView

    effect = "quarantine" if report.suite_name == "recordings" else "stop"
    rows = [
        [result.expectation_config.meta["check"], _effect(result, effect), *_cells(result)]
        for result in report.results
    ]
    header = ["Check", "Else", "Status", "Expectation", "Observed"]
    table = RenderedTableContent(table=sorted(rows, key=lambda row: row[0]), header_row=header)
    html = DefaultJinjaComponentView().render({"content_block": table.to_json_dict()})
    counts = report.statistics
    return (
        f"<h2>{report.suite_name}: {counts['successful_expectations']} of "
        f"{counts['evaluated_expectations']} hold</h2>\n<p>{ABOUT[report.suite_name]}</p>\n{plain(html)}"
    )


def _effect(result: Any, effect: str) -> str:
    return "told" if result.expectation_config.severity == "warning" else effect


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
