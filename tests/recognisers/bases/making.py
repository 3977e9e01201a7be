"""Small models with random weights in CTranslate2 format, and a hub that serves folders."""

import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|it|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
    *(f"<|{i * 0.02:.2f}|>" for i in range(1501)),
]
DIM, LAYERS, FRAMES, TEXT = 16, 1, 1500, 64
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_tokenizer(folder: Path) -> int:
    """Write a byte-level Whisper tokenizer; returns the size of its vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def write_ctranslate2(folder: Path, dtype: str = "float16", seed: int = 0) -> Path:
    """Write a Whisper model with one encoder layer, one decoder layer and 16 dimensions.

    `dtype` may be int8, which cannot be trained.
    """
    folder.mkdir(parents=True)
    size, random = write_tokenizer(folder), np.random.default_rng(seed)
    types = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    out = bytearray(struct.pack("<I", 6))

    def text(value: str) -> None:
        out.extend(struct.pack("<H", len(value) + 1) + value.encode() + b"\0")

    def put(name: str, value: np.ndarray) -> None:
        text(name)
        out.extend(struct.pack("<B", value.ndim) + b"".join(struct.pack("<I", n) for n in value.shape))
        out.extend(struct.pack("<BI", types[value.dtype.name], value.nbytes) + value.tobytes())

    variables = {name: random.normal(0, 0.1, shape).astype(dtype) for name, shape in _shapes(size).items()}
    variables |= {f"{side}/num_heads": np.array(2, dtype="int16") for side in ("encoder", "decoder")}
    text("WhisperSpec")
    out.extend(struct.pack("<II", 3, len(variables)))
    for name, value in variables.items():
        put(name, value)
    out.extend(struct.pack("<I", 0))
    (folder / "model.bin").write_bytes(out)
    (folder / "config.json").write_text(json.dumps({"suppress_ids": [1, 2], "alignment_heads": [[0, 0]]}))
    return folder


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "encoder/conv1/weight": (DIM, 80, 3),
        "encoder/conv1/bias": (DIM,),
        "encoder/conv2/weight": (DIM, DIM, 3),
        "encoder/conv2/bias": (DIM,),
        "decoder/embeddings/weight": (vocabulary, DIM),
        "encoder/position_encodings/encodings": (FRAMES, DIM),
        "decoder/position_encodings/encodings": (TEXT, DIM),
    }
    for side in ("encoder", "decoder"):
        norms = [f"{side}/layer_norm"]
        for layer in range(LAYERS):
            layer_name = f"{side}/layer_{layer}"
            linears = {"self_attention/linear_0": (3, 1), "self_attention/linear_1": (1, 1)}
            linears |= {"ffn/linear_0": (4, 1), "ffn/linear_1": (1, 4)}
            norms += [f"{layer_name}/self_attention/layer_norm", f"{layer_name}/ffn/layer_norm"]
            if side == "decoder":
                linears |= {f"attention/linear_{i}": (2 if i == 1 else 1, 1) for i in range(3)}
                norms.append(f"{layer_name}/attention/layer_norm")
            for name, (out, into) in linears.items():
                shapes[f"{layer_name}/{name}/weight"] = (out * DIM, into * DIM)
                shapes[f"{layer_name}/{name}/bias"] = (out * DIM,)
        shapes |= {f"{norm}/{part}": (DIM,) for norm in norms for part in ("gamma", "beta")}
    return shapes


@dataclass
class Hub:
    """A model hub that serves model folders.

    The connection breaks `cuts` times, after `cut_after` bytes of a weights file.
    """

    models: dict[str, Path]
    url: str = ""
    card: dict[str, Any] = field(default_factory=lambda: {"license": "mit", "language": ["en", "it"]})
    cut_after: int = 0
    cuts: int = 0
    gated: bool = False
    slow_s: float = 0.0
    requests: list[tuple[str, str]] = field(default_factory=list)  # (file, Range)

    def info(self, name: str, revision: str) -> dict[str, Any]:
        files = []
        for file in sorted(p for p in self.models[name].iterdir() if p.is_file()):
            data = file.read_bytes()
            about: dict[str, Any] = {"rfilename": file.name, "size": len(data)}
            if file.suffix in (".safetensors", ".bin"):
                about["lfs"] = {
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "pointerSize": 134,
                }
            about["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            files.append(about)
        return {
            "id": name,
            "modelId": name,
            "sha": COMMIT,
            "siblings": files,
            "cardData": self.card,
            "tags": [],
        }


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                name, revision = "/".join(parts[2:4]), "/".join(parts[5:]) or "main"
                self._info(name, revision)
            else:
                self._file("/".join(parts[:2]), parts[3], parts[4])

        def _info(self, name: str, revision: str) -> None:
            if hub.gated:
                self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
            elif name not in hub.models:
                self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            elif revision not in ("main", "v1", COMMIT):
                self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            else:
                self._answer(
                    200, json.dumps(hub.info(name, revision)).encode(), {"Content-Type": "application/json"}
                )

        def _file(self, name: str, revision: str, file: str) -> None:
            import time

            range_header = self.headers.get("Range", "")
            hub.requests.append((file, range_header))
            time.sleep(hub.slow_s)
            assert revision == COMMIT
            data = (hub.models[name] / file).read_bytes()
            start = int(range_header.removeprefix("bytes=").rstrip("-")) if range_header else 0
            part = data[start:]
            broken = file.endswith(".safetensors") and hub.cuts > 0
            if broken:
                hub.cuts -= 1
            status = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if range_header else {}
            self._answer(206 if range_header else 200, part, status, hub.cut_after if broken else len(part))

        def _answer(self, status: int, data: bytes, headers: dict[str, str], sent: int | None = None) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data[:sent])
            if sent is not None and sent < len(data):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
