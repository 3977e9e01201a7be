"""The operations page from a real journal and history, opened as HTML."""

import json
from html.parser import HTMLParser
from pathlib import Path

from typer.testing import CliRunner

from metavox import journal
from metavox.cli.main import app
from metavox.promotion import history


class Texts(HTMLParser):
    """The cells of the page's tables, and its captions."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def page(project: Path, *options: str) -> list[str]:
    """The texts of the page that the command writes."""
    done = CliRunner().invoke(app, ["operations", "--project", str(project), *options])
    assert done.exit_code == 0, done.output
    texts = Texts()
    texts.feed((project / ".metavox/operations.html").read_text())
    return texts.texts


def test_the_page_shows_runs_costs_batches_and_requests(tmp_path: Path) -> None:
    shared_ids = {"time": "2026-11-01T10:00:00Z", "run": "0123456789"}
    for seconds in (100, 300):
        line = {"event": "stage", "stage": "train <b>", "outcome": "ran", "seconds": seconds, "pool": "gpu"}
        journal.append(tmp_path / journal.RUNS, {**shared_ids, **line})
    line = {
        "event": "flow",
        "flow": "readapt",
        "outcome": "failed",
        "seconds": 4000,
        "error": "the remote is away",
    }
    journal.append(tmp_path / journal.RUNS, {**shared_ids, **line})
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
    texts = page(tmp_path, "--requests", str(log), "--price", "gpu=9")
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
    assert "No champion has been promoted yet." in page(tmp_path)


def test_a_missing_log_and_a_wrong_price_are_one_line(tmp_path: Path) -> None:
    for options, line in (
        (
            ("--requests", "none"),
            "--requests none: no such file; `metavox serve --request-log FILE` writes it",
        ),
        (("--price", "gpu"), "--price gpu: expected POOL=PRICE, such as gpu=2.5"),
    ):
        done = CliRunner().invoke(app, ["operations", "--project", str(tmp_path), *options])
        assert line in done.stderr
