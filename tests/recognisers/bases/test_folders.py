"""Folders as base models: used in place, copied, converted, or rejected."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from making import write_ctranslate2

from metavox.errors import UserError
from metavox.recognisers.bases import local, store
from metavox.recognisers.bases.describe import rows
from metavox.recognisers.bases.files import check, count_weights
from metavox.recognisers.bases.find import add_base, find_base, remove_base
from metavox.recognisers.conformer import artifact
from metavox.recognisers.conformer.network import Network


def error_of(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        find_base(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_used_in_place(whisper: Path, bases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = find_base("./whisper-mini")
    assert base.folder == Path("whisper-mini")
    assert (base.name, base.kind, base.in_store) == ("whisper-mini", "whisper", False)
    assert not bases.exists()
    monkeypatch.setenv("METAVOX_MODEL", str(whisper))
    assert find_base().digest == base.digest
    assert find_base("conformer").kind == "conformer"


def test_a_folder_is_copied_under_a_name(whisper: Path, bases: Path) -> None:
    (whisper / "run.py").write_text("raise SystemExit")
    (whisper / "optimizer.pt").write_bytes(b"a pickle")
    (whisper / "short_context").mkdir()
    for name in ("delta.json", "delta.safetensors"):
        (whisper / "short_context" / name).write_text("{}")
    base = add_base(str(whisper), "mine")
    assert (base.folder, base.digest) == (bases / "mine", find_base(str(whisper)).digest)
    assert find_base("mine").source.where == f"the folder {whisper}"
    assert not list(base.folder.glob("*.p*"))
    assert next(row for row in rows() if row.name == "mine").short_context
    with pytest.raises(UserError, match="a base of that name exists already"):
        add_base(str(whisper), "mine")
    remove_base("mine")
    assert [source.name for source in store.all_stored()] == []
    assert whisper.is_dir()


def test_ctranslate2_is_converted_once(ctranslate2: Path, bases: Path) -> None:
    lines: list[str] = []
    base = find_base(str(ctranslate2), lines.append)
    assert lines == [f"converting {ctranslate2} to Hugging Face's form, once"]
    assert base.name.startswith("faster-tiny-")
    assert base.source.revision.startswith("sha256:")
    check(base.folder, "whisper")
    assert find_base(str(ctranslate2), lines.append) == base
    assert len(lines) == 1
    named = add_base(str(ctranslate2), "tiny-it")
    assert named.digest == base.digest
    assert find_base("tiny-it").folder == bases / "tiny-it"
    assert count_weights(named.folder) > 1000


def test_int8_is_rejected(tmp_path: Path, bases: Path) -> None:
    line = error_of(write_ctranslate2(tmp_path / "small8", "int8"))
    assert "is int8, expected float16 or float32" in line
    assert list(store.all_stored()) == []
    assert store.partials(local.converted_name(tmp_path / "small8")) == []


def test_a_conformer_trained_by_the_pipeline_is_a_base(
    tmp_path: Path, make_model: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("artifacts/recogniser")
    artifact.save_model(make_model(), folder, "")
    assert find_base("artifacts/recogniser").kind == "conformer"
    assert {row.name: row.where for row in rows()}["artifacts/recogniser"] == "the pipeline made it here"
    assert add_base("artifacts/recogniser", "small").digest == artifact.digest(folder)


def test_pickled_weights_are_rejected(whisper: Path) -> None:
    (whisper / "model.safetensors").rename(whisper / "pytorch_model.bin")
    assert "holds pytorch_model.bin and no model.safetensors; a pickle can run any code" in error_of(whisper)


@pytest.mark.parametrize("size", [0, 5, 200, 10_000])
def test_truncated_weights_are_rejected(whisper: Path, size: int) -> None:
    data = (whisper / "model.safetensors").read_bytes()
    (whisper / "model.safetensors").write_bytes(data[:size])
    assert "copy or download it again" in error_of(whisper)


@pytest.mark.parametrize("header", [b"[]", b"{}", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b"\xff\xff"])
def test_a_broken_header_is_rejected(whisper: Path, header: bytes) -> None:
    (whisper / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    assert "copy or download it again" in error_of(whisper)


def test_a_missing_tokenizer_is_rejected(whisper: Path) -> None:
    (whisper / "tokenizer.json").unlink()
    assert "no tokenizer.json, expected the model's own" in error_of(whisper)


def test_an_incomplete_short_context_adapter_is_rejected(whisper: Path) -> None:
    (whisper / "short_context").mkdir()
    (whisper / "short_context" / "delta.json").write_text("{}")
    assert "no delta.safetensors, expected a delta's two files" in error_of(whisper)


def test_an_encoder_without_a_head_needs_no_vocabulary(whisper: Path) -> None:
    for architecture, allowed in (("Wav2Vec2ForPreTraining", True), ("Wav2Vec2ForCTC", False)):
        config = {"model_type": "wav2vec2", "architectures": [architecture]}
        (whisper / "config.json").write_text(json.dumps(config))
        if allowed:
            assert find_base(str(whisper)).kind == "ctc"
        else:
            assert "no vocab.json" in error_of(whisper)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_remote_code_is_rejected(whisper: Path, file: str) -> None:
    values = json.loads((whisper / file).read_text()) if (whisper / file).exists() else {}
    (whisper / file).write_text(json.dumps({**values, "auto_map": {"AutoTokenizer": "code.Mine"}}))
    assert "auto_map asks to run the model's own code" in error_of(whisper)


def test_folders_without_a_model_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no model there; expected a folder with config.json" in error_of(tmp_path / "empty")
    assert "a name that `metavox base list` shows" in error_of(Path("nothing"))
    assert "has no folder missing" in error_of(Path("empty/missing"))


@pytest.mark.parametrize("name", ["a/b", ".hidden", "-x", "a b", "whisper-tiny.en", "base", "openai--x/y"])
def test_invalid_names_are_rejected(whisper: Path, name: str) -> None:
    with pytest.raises(UserError, match="choose another name"):
        add_base(str(whisper), name)


def test_only_folders_can_be_named() -> None:
    with pytest.raises(UserError, match="is for a folder"):
        add_base("whisper-tiny.en", "mine")


def test_a_damaged_base_in_the_store_can_be_removed(whisper: Path) -> None:
    folder = add_base(str(whisper), "mine").folder
    shutil.copy(whisper / "config.json", folder / "model.safetensors")
    with pytest.raises(UserError, match="not a complete safetensors file"):
        find_base("mine")
    remove_base("mine")


def test_the_packaged_base_and_users_folders_cannot_be_removed(whisper: Path) -> None:
    for name in ("conformer", "base"):
        with pytest.raises(UserError, match="comes with metavox and cannot be removed"):
            remove_base(name)
    with pytest.raises(UserError, match="a folder of your own"):
        remove_base(str(whisper))


def test_names_with_a_common_prefix_are_separate(whisper: Path) -> None:
    store.root().mkdir(parents=True)
    store.partial("whisper-tiny.en").mkdir()
    add_base(str(whisper), "whisper-tiny")
    remove_base("whisper-tiny")
    assert store.partial("whisper-tiny.en").is_dir()


def test_an_unwritable_store_is_a_one_line_error(
    whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METAVOX_BASES", str(tmp_path / "file" / "bases"))
    with pytest.raises(UserError, match=r"cannot be written to .*set METAVOX_BASES"):
        add_base(str(whisper), "mine")


def test_the_location_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAVOX_BASES")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert store.root() == Path("/somewhere/metavox/bases")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.root() == Path.home() / ".cache/metavox/bases"
