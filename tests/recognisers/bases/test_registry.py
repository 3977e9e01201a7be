"""Kinds from config.json, digests, and loading."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from metavox.errors import UserError
from metavox.recognisers import registry
from metavox.recognisers.bases import digests
from metavox.recognisers.bases.find import default_embedder
from metavox.recognisers.conformer import artifact
from metavox.recognisers.conformer.network import Network


def folder_of(tmp_path: Path, **config: object) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_conformer_has_no_kind_key_and_keeps_its_digest(
    tmp_path: Path, make_model: Callable[..., Network]
) -> None:
    artifact.save_model(make_model(), tmp_path / "ours", "")
    assert registry.kind_of(tmp_path / "ours") == "conformer"
    assert registry.digest(tmp_path / "ours") == artifact.digest(tmp_path / "ours")
    recogniser = registry.load(tmp_path / "ours")
    assert recogniser.spec.kind == "conformer"
    assert (recogniser.spec.name, recogniser.spec.digest) == ("ours", artifact.digest(tmp_path / "ours"))


def test_the_packaged_base_loads() -> None:
    base = default_embedder()
    assert base.digest == artifact.digest(base.folder)
    assert base.load().spec.name == "conformer"


@pytest.mark.parametrize("model_type", registry.CTC_MODELS)
def test_ctc_encoders_are_of_the_kind_ctc(tmp_path: Path, model_type: str) -> None:
    assert registry.kind_of(folder_of(tmp_path, model_type=model_type)) == "ctc"


def test_the_key_kind_takes_precedence(tmp_path: Path) -> None:
    assert registry.kind_of(folder_of(tmp_path, kind="ctc", model_type="whisper")) == "ctc"


@pytest.mark.parametrize(
    ("config", "unknown"),
    [({"model_type": "llama"}, "llama"), ({"kind": "x"}, "x"), ({}, "neither kind nor model_type given")],
)
def test_an_unknown_kind_is_a_one_line_error_that_names_the_known_kinds(
    tmp_path: Path, config: dict[str, str], unknown: str
) -> None:
    with pytest.raises(UserError) as error:
        registry.kind_of(folder_of(tmp_path, **config))
    line = str(error.value)
    assert (
        f"unknown kind of recogniser ({unknown}); expected one of conformer, whisper, wav2vec2, hubert"
        in line
    )
    assert "\n" not in line


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_an_invalid_configuration_is_a_one_line_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: .*copy or download it again"):
        registry.kind_of(tmp_path)


def test_the_digest_covers_the_weights_and_not_the_layout_of_their_file(whisper: Path) -> None:
    before, tensors = registry.digest(whisper), load_file(whisper / "model.safetensors")
    save_file(dict(reversed(tensors.items())), whisper / "model.safetensors", {"format": "other"})
    assert registry.digest(whisper) == before
    (whisper / "README.md").write_text("a note")
    assert registry.digest(whisper) == before
    first = next(iter(tensors))
    save_file({**tensors, first: tensors[first] + 1}, whisper / "model.safetensors")
    assert registry.digest(whisper) != before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_the_digest_covers_configuration_and_vocabulary(whisper: Path, name: str) -> None:
    before = registry.digest(whisper)
    values = json.loads((whisper / name).read_text())
    (whisper / name).write_text(json.dumps({**values, "extra": 1}))
    assert registry.digest(whisper) != before


def test_a_short_context_adapter_is_part_of_the_base(whisper: Path) -> None:
    own = registry.digest(whisper)
    assert registry.own_digest(whisper) == own
    adapter = whisper / registry.SHORT_CONTEXT
    adapter.mkdir()
    for name in ("delta.json", "delta.safetensors"):
        (adapter / name).write_bytes(b"one")
    first = registry.digest(whisper)
    assert first != own
    assert registry.own_digest(whisper) == own
    (adapter / "delta.safetensors").write_bytes(b"two")
    assert registry.digest(whisper) not in (own, first)


def test_digests_of_large_files_are_cached(
    tmp_path: Path, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MIN_CACHED_BYTES", 10)
    file, read = tmp_path / "large", list[Path]()
    file.write_bytes(b"x" * 100)
    compute = digests._of_bytes
    monkeypatch.setattr(digests, "_of_bytes", lambda path: read.append(path) or compute(path))
    first = digests.bytes_digest(file)
    assert digests.bytes_digest(file) == first
    assert len(read) == 1
    file.write_bytes(b"y" * 100)
    os.utime(file, ns=(1, 1))
    assert digests.bytes_digest(file) != first
    (bases / digests.CACHE).write_text("no JSON")
    assert digests.bytes_digest(file) != first
    assert len(read) == 3


def test_digests_work_with_an_unwritable_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    monkeypatch.setattr(digests, "MIN_CACHED_BYTES", 10)
    monkeypatch.setenv("METAVOX_BASES", str(tmp_path / "file" / "under-a-file"))
    assert len(digests.bytes_digest(tmp_path / "file")) == 64
