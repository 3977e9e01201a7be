"""Base models from a hub: a real local server and client, interruptions and errors."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from making import COMMIT, Hub, write_ctranslate2
from safetensors.numpy import load_file

from metavox.errors import UserError
from metavox.recognisers.bases import hub as hub_module
from metavox.recognisers.bases import store
from metavox.recognisers.bases.find import add_base, find_base, remove_base
from metavox.recognisers.whisper.ctranslate2 import convert

NAME = "someone/whisper-mini"


def error_of(name: str) -> str:
    with pytest.raises(UserError) as error:
        find_base(name)
    line = str(error.value)
    assert "\n" not in line
    assert "partial" not in line
    return line


def test_a_model_is_pinned_and_contains_nothing_executable(the_hub: Hub, whisper: Path, bases: Path) -> None:
    lines: list[str] = []
    base = find_base(NAME, lines.append)
    assert base.folder == bases / "someone--whisper-mini"
    assert (base.name, base.kind, base.source.revision) == (NAME, "whisper", COMMIT)
    assert (base.source.licence, base.source.languages) == ("mit", ("en", "it"))
    assert len(lines) == 1
    assert lines[0].startswith(f"fetching {NAME} at 0123456789ab, ")
    files = {file.name for file in base.folder.iterdir()}
    assert files == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "source.json",
        "tokenizer.json",
    }
    assert (base.folder / "model.safetensors").read_bytes() == (whisper / "model.safetensors").read_bytes()
    requests = len(the_hub.requests)
    assert find_base(NAME).digest == base.digest
    assert find_base(f"{NAME}@0123456").folder == base.folder  # the same commit is not fetched twice
    assert len(the_hub.requests) == requests


def test_a_revision_is_stored_separately(the_hub: Hub) -> None:
    base = add_base(f"{NAME}@v1")
    assert base.folder.name == "someone--whisper-mini@v1"
    assert (base.source.asked, base.source.revision) == ("v1", COMMIT)
    assert "no such revision" in error_of(f"{NAME}@v2")


def test_a_broken_connection_resumes(the_hub: Hub, whisper: Path) -> None:
    the_hub.cut_after, the_hub.cuts = 1000, 2
    base = find_base(NAME)
    assert (base.folder / "model.safetensors").read_bytes() == (whisper / "model.safetensors").read_bytes()
    assert [r for file, r in the_hub.requests if file == "model.safetensors"] == [
        "",
        "bytes=1000-",
        "bytes=2000-",
    ]


def test_an_interrupted_download_is_not_in_the_store(
    the_hub: Hub, whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "TRIES", 1)
    the_hub.cut_after, the_hub.cuts = 1000, 1
    assert "run it again to resume" in error_of(NAME)
    assert store.stored(NAME) is None
    assert list(store.all_stored()) == []
    the_hub.requests.clear()
    base = find_base(NAME)
    assert the_hub.requests == [("model.safetensors", "bytes=1000-")]  # the rest of the weights only
    assert (base.folder / "model.safetensors").read_bytes() == (whisper / "model.safetensors").read_bytes()
    assert store.partials(NAME) == []


def test_corrupt_bytes_are_rejected(the_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    correct_info = Hub.info

    def wrong_info(hub: Hub, name: str, revision: str) -> dict[str, object]:
        about = correct_info(hub, name, revision)
        next(f for f in about["siblings"] if "lfs" in f)["lfs"]["sha256"] = "0" * 64
        next(f for f in about["siblings"] if f["rfilename"] == "model.safetensors")["lfs"]["sha256"] = (
            "0" * 64
        )
        return about

    monkeypatch.setattr(Hub, "info", wrong_info)
    assert "model.safetensors: received" in error_of(NAME)
    assert store.stored(NAME) is None


def test_unreachable_gated_and_unknown_models(the_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no model of that name on the hub" in error_of("someone/else")
    the_hub.gated = True
    assert "set HF_TOKEN" in error_of(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    line = error_of(NAME)
    assert "the hub cannot be reached" in line
    assert "--base whisper-tiny.en" in line
    assert "--base FOLDER" in line


def test_offline_is_respected(the_hub: Hub) -> None:
    # The library reads HF_HUB_OFFLINE when it is imported.
    code = f"from metavox.recognisers.bases.find import find_base; find_base({NAME!r})"
    import os

    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert "HF_HUB_OFFLINE is set" in process.stderr
    assert the_hub.requests == []


def test_pickles_remote_code_and_unknown_architectures(the_hub: Hub, whisper: Path) -> None:
    config = json.loads((whisper / "config.json").read_text())
    (whisper / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling.Mine"}}))
    assert "auto_map asks to run the model's own code" in error_of(NAME)
    (whisper / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    assert "unknown kind of recogniser (llama); expected one of conformer, whisper, wav2vec2" in error_of(
        NAME
    )
    (whisper / "config.json").write_text(json.dumps(config))
    (whisper / "model.safetensors").rename(whisper / "x.txt")
    assert "has pytorch_model.bin and no model.safetensors" in error_of(NAME)
    assert not {file for file, _ in the_hub.requests} & {"pytorch_model.bin", "modeling.py"}
    assert store.partials(NAME) == []


def test_a_full_disk_is_noticed_before_the_download(the_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda place: usage(10**9, 10**9, 1000))
    line = error_of(NAME)
    assert "needs 0.1 MB" in line or "needs" in line
    assert "METAVOX_BASES" in line
    assert "model.safetensors" not in {file for file, _ in the_hub.requests}


def test_a_disk_that_fills_up(the_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub_module, "_append", full)
    assert "became full; free some space" in error_of(NAME)
    monkeypatch.undo()


def test_two_processes_fetch_a_model_once(the_hub: Hub, whisper: Path) -> None:
    the_hub.slow_s = 0.3
    code = f"from metavox.recognisers.bases.find import find_base; print(find_base({NAME!r}).digest)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert [file for file, _ in the_hub.requests].count("model.safetensors") == 1


def test_sharded_weights(the_hub: Hub, whisper: Path) -> None:
    from safetensors.numpy import save_file

    tensors = load_file(whisper / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for part, names_of_shard in parts.items():
        save_file({name: tensors[name] for name in names_of_shard}, whisper / part)
    weight_map = {name: part for part, names_of_shard in parts.items() for name in names_of_shard}
    (whisper / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (whisper / "model.safetensors").unlink()
    base = find_base(NAME)
    assert {file.name for file in base.folder.glob("*.safetensors")} == set(parts)
    (base.folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors missing" in error_of(NAME)


def test_language_adapters(the_hub: Hub, whisper: Path, tmp_path: Path) -> None:
    mms = tmp_path / "mms"
    mms.mkdir()
    shutil.copy(whisper / "model.safetensors", mms)
    config = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"], "adapter_attn_dim": 16}
    (mms / "config.json").write_text(json.dumps(config))
    (mms / "vocab.json").write_text(json.dumps({"eng": {"a": 0}, "ita": {"a": 0}}))
    for code in ("eng", "ita", "uzb-script_latin"):
        shutil.copy(whisper / "model.safetensors", mms / f"adapter.{code}.safetensors")
    the_hub.models["someone/mms"] = mms
    base = add_base("someone/mms")
    assert [file.name for file in base.folder.glob("adapter.*")] == ["adapter.eng.safetensors"]
    add_base("someone/mms", languages=["it", "uz"])
    assert {f.name for f in base.folder.glob("adapter.*")} == {f.name for f in mms.glob("adapter.*")}
    with pytest.raises(UserError, match="no adapter for the language fr, but 3 others, such as eng, ita"):
        add_base("someone/mms", languages=["fr"])
    the_hub.requests.clear()
    add_base("someone/mms", languages=["ita"])
    assert the_hub.requests == []


def test_remove_frees_the_space(the_hub: Hub) -> None:
    base = find_base(NAME)
    assert remove_base(NAME) > 10_000
    assert not base.folder.exists()
    with pytest.raises(UserError, match="not in the store"):
        remove_base(NAME)


def test_conversion_and_hub_give_the_same_digest(the_hub: Hub, whisper: Path, tmp_path: Path) -> None:
    again = convert(write_ctranslate2(tmp_path / "again"), tmp_path / "again-hf")
    assert find_base(str(again)).digest == find_base(NAME).digest


def test_a_language_adapter_is_fetched_on_demand(the_hub: Hub, mms: Path) -> None:
    the_hub.models["someone/mms"] = mms
    base = find_base("someone/mms")
    assert base.load().spec.languages == ("en",)
    italian = base.load("it")
    assert italian.spec.languages == ("it",)
    assert italian.missing_characters(["è"]) == ""
    with pytest.raises(UserError, match="no adapter for the language fr, but 2 others"):
        base.load("fr")
