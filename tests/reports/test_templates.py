"""Pages show text as text, whatever it contains, and only templates contain markup."""

import ast
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

import metavox
from metavox.reports.render import Table, render

SOURCE = Path(metavox.__file__).parent
TEMPLATES = SOURCE / "reports/templates"
TAG = re.compile(
    r"</?(a|article|audio|b|body|br|dd|details|div|dl|dt|em|figcaption|figure|h[1-6]|head|html|img|li|main|ol|p|picture"
    r"|script|section|source|span|strong|style|summary|table|tbody|td|th|thead|title|tr|ul)(\s+[\w-]+=|\s*/?>)"
)


def diff(label: str) -> str:
    changes = {
        "before": label,
        "alarms": [label],
        "sentences": [label],
        "tables": [Table(label, [label], [[label]])],
    }
    return render("diff.html", before=label, after=label, changes=changes)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\"' onmouseover=alert(1) '", "&#34;&#39; onmouseover=alert(1) &#39;"),
        ("{{ 7 * 7 }}{% raw %}", "{{ 7 * 7 }}{% raw %}"),
        ("invoice\u202egnp.exe", r"invoice\u202egnp.exe"),
        ("\u2067right\u2069 \u202aleft\u202c", r"\u2067right\u2069 \u202aleft\u202c"),
        ("bell\x07nul\x00escape\x1b[31m\x85", r"bell\u0007nul\u0000escape\u001b[31m\u0085"),
        ("not utf-8: \udcff", r"not utf-8: \udcff"),
    ],
)
def test_hostile_text_is_inert_wherever_it_appears(label: str, shown: str) -> None:
    page = diff(label)
    assert label not in page.replace(shown, "")
    assert page.count(shown) == 11
    page.encode("utf-8")


@pytest.mark.parametrize(
    "label", ["مرحبا", "שלום", "می\u200cخواهم", "👨\u200d👩\u200d👧", "नमस्ते", "two\tparts"]
)
def test_text_of_every_script_stays_as_it_is(label: str) -> None:
    assert label in diff(label)


def test_missing_data_is_an_error_and_not_an_empty_page() -> None:
    changes = {"before": "a", "alarms": [], "sentences": [], "tables": []}
    with pytest.raises(UndefinedError, match="after"):
        render("diff.html", before="a", changes=changes)


def test_an_interval_stays_on_one_line() -> None:
    table = Table("", ["", "<b>"], [["accuracy", "<90.0 ± 2.0"]])
    page = render(
        "diff.html",
        before="",
        after="",
        changes={"before": "", "alarms": [], "sentences": [], "tables": [table]},
    )
    assert "<td>&lt;90.0\u00a0±\u00a02.0</td>" in page


def test_only_templates_contain_markup() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}: {node.value[:60]!r}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and TAG.search(node.value)
    ]
    assert found == []


def test_only_sanitised_markup_is_left_unescaped() -> None:
    unescaped = [
        (path.name, line.strip())
        for path in sorted(TEMPLATES.glob("*.html"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\|\s*safe|autoescape", line)
    ]
    assert unescaped == [("expectations.html", "{{ suite.table | safe }}")], (
        "Great Expectations' table, see docs.py"
    )
    assert not list(SOURCE.rglob("*.j2"))


def test_templates_load_and_run_nothing() -> None:
    for path in TEMPLATES.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text, path.name
        assert not re.search(r"<(script|link|iframe|object|embed|form|base)\b|\son\w+=|@import", text), (
            path.name
        )


def test_unsafe_characters_in_sanitised_markup_are_shown_too() -> None:
    suite = {"name": "set", "met": 1, "count": 1, "about": "", "table": Markup("<p>a\u202eb</p>")}
    counts = {"rows": 1, "clean": 1, "quarantined": 0, "released": 0}
    page = render("expectations.html", statistics=counts, failed=[], warnings=[], suites=[suite])
    assert r"<p>a\u202eb</p>" in page
