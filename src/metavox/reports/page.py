"""The frame of a report: one HTML file, light and dark, that runs nothing and loads nothing from elsewhere."""

from collections.abc import Sequence
from html import escape

PM, WHOLE = " ± ", "\u00a0±\u00a0"  # an interval stays on one line
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f24; --soft: #5a626e; --line: #d5d9e0;
  --card: #f5f6f8; --good: #17713a; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --paper: #16191e; --ink: #e6e8eb; --soft: #a3abb7;
  --line: #3a414b; --card: #1f242b; --good: #6fcf8f; --bad: #ff8a80 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif }
main { max-width: 46rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.2 }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
h3 { font-size: 1rem; margin-bottom: .3rem }
.scroll { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
img { max-width: 100%; height: auto; display: block }
figure { margin: 1rem 0 }
figcaption, .soft { color: var(--soft); font-size: .9rem }
.gate { background: var(--card); padding: .7rem 1rem; border-left: .35rem solid }
.passed { border-color: var(--good) }
.failed { border-color: var(--bad) }
summary { cursor: pointer; padding: .3rem 0 }
audio { width: 100%; max-width: 20rem; display: block; height: 2.4rem }
@media (max-width: 40rem) { td { min-width: 4.5rem } td:last-child { min-width: 9rem } }
dl { margin: 0 }
dd { margin: 0 0 .5rem }
"""


def page(title: str, parts: Sequence[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{body}</section>"


def bullets(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first cell of a row is its heading; a wide table scrolls inside its own frame."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(c).replace(PM, WHOLE)}</td>" for c in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def details(body: str, summary: str = "The numbers") -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
