"""Folders as bases: in place, copied, converted, refused."""

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


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        find_base(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_used_where_it_lies(whisper: Path, bases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = find_base("./whisper-mini")
    assert base.folder == Path("whisper-mini")
    assert (base.name, base.kind, base.in_store) == ("whisper-mini", "whisper", False)
    assert not bases.exists()
    monkeypatch.setenv("METAVOX_MODEL", str(whisper))
    assert find_base().digest == base.digest
    assert find_base("conformer").kind == "conformer"


def test_copied_under_a_name(whisper: Path, bases: Path) -> None:
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
    with pytest.raises(UserError, match="there is a base of that name"):
        add_base(str(whisper), "mine")
    remove_base("mine")
    assert [source.name for source in store.all_stored()] == []
    assert whisper.is_dir()


def test_converted_once(ctranslate2: Path, bases: Path) -> None:
    told: list[str] = []
    base = find_base(str(ctranslate2), told.append)
    assert told == [f"converting {ctranslate2} to Hugging Face's form, once"]
    assert base.name.startswith("faster-tiny-")
    assert base.source.revision.startswith("sha256:")
    check(base.folder, "whisper")
    assert find_base(str(ctranslate2), told.append) == base
    assert len(told) == 1
    named = add_base(str(ctranslate2), "tiny-it")
    assert named.digest == base.digest
    assert find_base("tiny-it").folder == bases / "tiny-it"
    assert count_weights(named.folder) > 1000


def test_int8_is_refused(tmp_path: Path, bases: Path) -> None:
    line = refusal(write_ctranslate2(tmp_path / "small8", "int8"))
    assert "is int8, expected float16 or float32" in line
    assert list(store.all_stored()) == []
    assert store.partials(local.converted_name(tmp_path / "small8")) == []


def test_one_of_our_own(
    tmp_path: Path, make_model: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path("artifacts/recogniser")
    artifact.save_model(make_model(), made, "")
    assert find_base("artifacts/recogniser").kind == "conformer"
    assert {row.name: row.where for row in rows()}["artifacts/recogniser"] == "the pipeline made it here"
    assert add_base("artifacts/recogniser", "small").digest == artifact.digest(made)


def test_pickles_alone(whisper: Path) -> None:
    (whisper / "model.safetensors").rename(whisper / "pytorch_model.bin")
    assert "holds pytorch_model.bin and no model.safetensors; a pickle can run any code" in refusal(whisper)


@pytest.mark.parametrize("left", [0, 5, 200, 10_000])
def test_cut_short(whisper: Path, left: int) -> None:
    data = (whisper / "model.safetensors").read_bytes()
    (whisper / "model.safetensors").write_bytes(data[:left])
    assert "copy or download it again" in refusal(whisper)


@pytest.mark.parametrize("head", [b"[]", b"{}", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b"\xff\xff"])
def test_a_head_that_is_none(whisper: Path, head: bytes) -> None:
    (whisper / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"1234")
    assert "copy or download it again" in refusal(whisper)


def test_no_tokenizer(whisper: Path) -> None:
    (whisper / "tokenizer.json").unlink()
    assert "no tokenizer.json, expected the model's own" in refusal(whisper)


def test_half_a_short_context_adapter(whisper: Path) -> None:
    (whisper / "short_context").mkdir()
    (whisper / "short_context" / "delta.json").write_text("{}")
    assert "no delta.safetensors, expected a delta's two files" in refusal(whisper)


def test_an_encoder_without_a_head_needs_no_vocabulary(whisper: Path) -> None:
    for architecture, fine in (("Wav2Vec2ForPreTraining", True), ("Wav2Vec2ForCTC", False)):
        config = {"model_type": "wav2vec2", "architectures": [architecture]}
        (whisper / "config.json").write_text(json.dumps(config))
        if fine:
            assert find_base(str(whisper)).kind == "ctc"
        else:
            assert "no vocab.json" in refusal(whisper)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_remote_code(whisper: Path, file: str) -> None:
    values = json.loads((whisper / file).read_text()) if (whisper / file).exists() else {}
    (whisper / file).write_text(json.dumps({**values, "auto_map": {"AutoTokenizer": "code.Mine"}}))
    assert "auto_map asks to run the model's own code" in refusal(whisper)


def test_no_model_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no model there; expected a folder with config.json" in refusal(tmp_path / "empty")
    assert "a name that `metavox base list` shows" in refusal(Path("nothing"))
    assert "has no folder missing" in refusal(Path("empty/missing"))


@pytest.mark.parametrize("name", ["a/b", ".hidden", "-x", "a b", "whisper-tiny.en", "base", "openai--x/y"])
def test_names_that_cannot_be(whisper: Path, name: str) -> None:
    with pytest.raises(UserError, match="choose another name"):
        add_base(str(whisper), name)


def test_a_name_is_for_a_folder_only() -> None:
    with pytest.raises(UserError, match="is for a folder"):
        add_base("whisper-tiny.en", "mine")


def test_a_stored_base_that_was_damaged(whisper: Path) -> None:
    folder = add_base(str(whisper), "mine").folder
    shutil.copy(whisper / "config.json", folder / "model.safetensors")
    with pytest.raises(UserError, match="no whole safetensors file"):
        find_base("mine")
    remove_base("mine")


def test_the_packaged_base_and_a_users_folder_stay(whisper: Path) -> None:
    for name in ("conformer", "base"):
        with pytest.raises(UserError, match="comes with metavox and stays"):
            remove_base(name)
    with pytest.raises(UserError, match="a folder of your own"):
        remove_base(str(whisper))


def test_names_that_begin_alike_keep_apart(whisper: Path) -> None:
    store.root().mkdir(parents=True)
    store.partial("whisper-tiny.en").mkdir()
    add_base(str(whisper), "whisper-tiny")
    remove_base("whisper-tiny")
    assert store.partial("whisper-tiny.en").is_dir()


def test_a_store_that_cannot_be_made(whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METAVOX_BASES", str(tmp_path / "file" / "bases"))
    with pytest.raises(UserError, match=r"cannot be written to .*set METAVOX_BASES"):
        add_base(str(whisper), "mine")


def test_where_bases_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAVOX_BASES")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert store.root() == Path("/somewhere/metavox/bases")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.root() == Path.home() / ".cache/metavox/bases"
