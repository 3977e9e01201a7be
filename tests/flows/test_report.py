"""The operations page from a real journal and history, opened as HTML."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows import journal
from flows.report import price, write_report
from metavox.errors import UserError
from metavox.promotion import history


class Texts(HTMLParser):
    """The cells of the page's tables, and its captions."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def page(path: Path) -> list[str]:
    texts = Texts()
    texts.feed(path.read_text())
    return texts.texts


def test_the_page_shows_runs_costs_batches_and_requests(tmp_path: Path) -> None:
    for seconds in (100, 300):
        values = {"outcome": "ran", "seconds": seconds, "pool": "gpu", "commit": "c", "outs": {}}
        journal.record(tmp_path, "stage", stage="train <b>", **values)
    journal.record(
        tmp_path, "flow", flow="readapt", outcome="failed", seconds=4000, error="the remote is away"
    )
    shared = {"recordings": 60, "confidence": 0.9, "contradicted": 0.1, "why": "better"}
    history.add(
        tmp_path,
        {
            **shared,
            "batch": "2026-11-01T10:00:00",
            "outcome": "promote",
            "version": "v0.1.0",
            "error_rate": 1.0,
        }
        | {"newest_before": 1.0, "newest_after": 0.1},
    )
    history.add(
        tmp_path,
        {**shared, "batch": "2026-11-02T10:00:00", "outcome": "keep", "version": "v0.1.0", "error_rate": 0.1}
        | {"fixed_before": 0.1, "fixed_after": 0.1, "drifted": "snr_db;language"},
    )
    log = tmp_path / "requests.jsonl"
    answered = {"status": 200, "ms": 120, "model": "abc", "confidence": 0.8, "seconds": 60.0, "words": 0}
    log.write_text(
        "".join(json.dumps(line) + "\n" for line in (answered, {"status": 400, "ms": 2, "model": "abc"}))
    )
    write_report(tmp_path, tmp_path / "page.html", log, {"gpu": 9.0})
    texts = page(tmp_path / "page.html")
    for expected in (
        "train <b>",
        "3 min 20 s",
        "6 min 40 s",
        "1.00",
        "the remote is away",
        "1 h 06 min",
        "snr_db, language",
        "50.0%",
    ):
        assert expected in texts, expected
    assert any("The champion is v0.1.0" in text for text in texts)
    assert (
        "1 run, of which 1 failed; 2 batches of recordings, 1 promotion; 2 requests in the service's log."
        in texts
    )


def test_a_project_without_any_run_has_a_page(tmp_path: Path) -> None:
    write_report(tmp_path, tmp_path / "page.html", None, {})
    assert "No champion has been promoted yet." in page(tmp_path / "page.html")


def test_a_missing_log_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; `metavox serve --request-log FILE` writes it"):
        write_report(tmp_path, tmp_path / "page.html", tmp_path / "none", {})
    assert price("gpu=2.5") == ("gpu", 2.5)
