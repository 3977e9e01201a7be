"""A small corpus in shards, and a local web server with transfers that fail on request."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from metavox.dataset.shards import write_shards

RATE = 8000


def write_corpus(folder: Path, shards: int = 5, clips: int = 12, first_s: float = 0.3) -> pd.DataFrame:
    """Noise in FLAC. Each clip is 10 ms longer than the one before, so that its length identifies it.

    One clip of each shard is in split dev, and one is a digit.
    """
    random, rows, index = np.random.default_rng(shards), [], 0
    for shard in range(shards):
        files = []
        for clip in range(clips):
            samples = 0.1 * random.normal(size=round((first_s + 0.01 * index) * RATE))
            file = io.BytesIO()
            soundfile.write(file, samples, RATE, format="FLAC")
            files.append((f"speaker{clip % 2}/{index:04d}.flac", file.getvalue()))
            split, unit = "dev" if clip == 3 else "train", "digit" if clip == 5 else "word"
            rows.append(
                {
                    "text": "noise",
                    "speaker": f"{split}-{clip % 2}",
                    "language": "xx",
                    "split": split,
                    "unit": unit,
                    "duration_s": len(samples) / RATE,
                    "member": files[-1][0],
                }
            )
            index += 1
        paths = write_shards(folder / "shards", f"part{shard}", files)
        for row in rows[-clips:]:
            row["path"] = paths[row.pop("member")]
    table = pd.DataFrame(rows)
    table.to_csv(folder / "manifest.csv", index=False)
    return table


class Served:
    """The requests that the server received. `failures`: how many more transfers of a path will break off half way."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.failures: dict[str, int] = {}


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.served.requests.append(path)
        if "Range" in self.headers:
            self.served.ranges.append(path)
        if self.served.failures.get(path, 0) > 0:
            self.served.failures[path] -= 1
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve the folder over HTTP on this machine while the block runs."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        server.daemon_threads = True
        state = handler.served = Served(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
