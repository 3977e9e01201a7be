"""What goes wrong around a run, with a real server: it dies and comes back, and somebody has to be told."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from clones import Site, server
from prefect.settings import PREFECT_API_URL, temporary_settings
from small_project import REPO, Project, until

from flows.deploy import tell

Documents = list[dict[str, Any]]


@pytest.fixture
def receiver() -> Iterator[tuple[str, Documents]]:
    """An address that takes JSON by POST, and what it took."""
    received: Documents = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/hook", received
    http.shutdown()
    thread.join()
    http.server_close()


def test_webhooks_and_a_server_that_dies_and_comes_back(
    tmp_path: Path, project: Project, receiver: tuple[str, Documents]
) -> None:
    address, received = receiver
    waits = "until [ -e go ]; do sleep 0.05; done; cp data copy"
    project.write(copy={"cmd": waits, "deps": ["data"], "outs": ["copy"]})
    with ExitStack() as stack:
        first = ExitStack()
        url = first.enter_context(server(tmp_path / "server"))
        site = Site(tmp_path, url)
        stack.callback(site.stop)
        with temporary_settings({PREFECT_API_URL: url}):
            tell(address)
            _fail_and_promote(tmp_path, site)
            until(lambda: len(received) >= 2, "both webhooks")
        texts = {document["subject"]: document["text"] for document in received}
        assert texts["metavox: promoted v0.2.0"] == "better"
        (failed,) = (text for subject, text in texts.items() if subject.endswith("Failed"))
        assert "broken: " in failed

        run = site.start("run", REPO, "flows.pipeline", "--project", str(project.folder))
        until(lambda: project.runs() == ["copy"], "the stage to run")
        first.close()
        stack.enter_context(server(tmp_path / "server", port=int(url.split(":")[2].split("/")[0])))
        project.touch("go")
        assert run.wait() == 0, run.text()
        assert run.message() == "metavox: copy ran"
        until(lambda: site.runs("RUNNING", "PENDING") == [], "no run to say that it is running")
        assert (project.folder / "copy").read_text() == "one\n"


def _fail_and_promote(folder: Path, site: Site) -> None:
    """A run that fails and a promotion, in processes of their own, because Prefect's client remembers its server."""
    broken = Project(folder / "broken")
    (broken.folder / ".dvc").mkdir(parents=True)
    (broken.folder / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    broken.write(broken={"cmd": "echo no >&2; exit 1", "outs": ["x"], "meta": {"retries": 0}})
    run = site.start("broken", REPO, "flows.pipeline", "--project", str(broken.folder))
    assert run.wait() == 1, run.text()
    promotes = (
        "from pathlib import Path; from prefect import flow; from flows.conclude import told; "
        f"flow(lambda: told('promoted', Path({str(folder)!r}), version='v0.2.0', why='better'), name='decide')()"
    )
    site.do(REPO, sys.executable, "-c", promotes)
