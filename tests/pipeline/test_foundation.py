"""A foundation base in the stages: its short context, its start, deltas, and the packaged model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from small_pipeline import PARAMS

from metavox.dataset.store import ABOUT, FEATURES
from metavox.errors import UserError
from metavox.files import write_json
from metavox.params import Params
from metavox.pipeline.arms import training_key
from metavox.pipeline.artifacts import clean_store, trained_session
from metavox.pipeline.foundation import add_foundation
from metavox.recognisers import registry
from metavox.recognisers.bases.find import find_base
from metavox.recognisers.conformer import ConformerRecogniser
from metavox.recognisers.delta import Delta, LoRA, save_delta
from metavox.session import session_with
from metavox.stages import adapt, evaluate, metatrain, pretrain
from metavox.stages.package import assemble
from tests.small_whisper import save_small_whisper


@pytest.fixture
def spoken(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Params]:
    """The project with a sound file for each row of its manifest, all of it English, and a small Whisper as its base."""
    monkeypatch.setenv("METAVOX_BASES", str(tmp_path / "bases"))
    manifest = project / "artifacts/validated/manifest.parquet"
    rows = pd.read_parquet(manifest).assign(language="en")
    random = np.random.default_rng(0)
    (project / "data").mkdir()
    for path, seconds in zip(rows["path"], rows["duration_s"], strict=True):
        soundfile.write(project / "data" / path, random.normal(0, 0.05, int(16000 * seconds)), 16000)
    rows.to_parquet(manifest, index=False)
    values = PARAMS.model_dump(by_alias=True)
    values |= {"base": str(save_small_whisper(tmp_path / "tiny", states=1500))}
    return project, Params.model_validate(values)


def with_foundation(params: Params, **values: object) -> Params:
    return params.model_copy(update={"foundation": params.foundation.model_copy(update=values)})


def test_the_base_is_copied_and_transcribes(spoken: tuple[Path, Params]) -> None:
    root, params = spoken
    about = add_foundation(params, root, clean_store(root), root / "artifacts/recogniser")
    session = trained_session(root)
    assert session.recogniser.spec.kind == "whisper"
    assert session.embedder.spec.kind == "conformer"
    assert about == {"base": "tiny", "base_digest": session.recogniser.spec.digest}


def test_a_short_context_and_a_start_are_trained(spoken: tuple[Path, Params]) -> None:
    root, params = spoken
    # With this seed, two of the first eight clips are noise, from which the short context always learns.
    params = params.model_copy(update={"seed": 25})
    params = with_foundation(
        params,
        short_context_lessons=8,
        short_context_steps=2,
        start="reptile",
        start_steps=2,
        start_shots=2,
        start_inner_steps=1,
    )
    folder = root / "artifacts/recogniser"
    about = add_foundation(params, root, clean_store(root), folder)
    assert (folder / "base/short_context/delta.json").is_file()
    assert about["base_digest"] != registry.own_digest(folder / "base")
    assert about["start"] == "reptile"
    assert about["dev_speakers"] == 1
    assert (folder / "base/start").is_dir() == about["start_chosen"]
    assert (registry.load(folder / "base").start is not None) == about["start_chosen"]


def test_words_are_learned_on_the_encoder_of_the_base(spoken: tuple[Path, Params], tmp_path: Path) -> None:
    root, params = spoken
    prepared = root / "artifacts/prepared"
    about = json.loads((prepared / ABOUT).read_text())
    mels = np.fromfile(prepared / FEATURES, "<f2").reshape(-1, about["mels"])
    (prepared / FEATURES).write_bytes(np.tile(mels, 80 // about["mels"]).tobytes())
    (prepared / ABOUT).write_text(json.dumps(about | {"mels": 80, "kind": "whisper"}))
    values = params.model_dump(by_alias=True)
    values["features"] |= {"mels": 80, "kind": "whisper"}
    values["encoder"] |= {"kind": "whisper"}
    values["metatrain"] |= {"learner": "protonet", "cohort_size": 30}
    params = Params.model_validate(values)
    key = training_key(params, root)
    for stage in (pretrain, metatrain):
        stage.run(params, root)
    embedder = trained_session(root).embedder
    assert isinstance(embedder, ConformerRecogniser)
    assert (embedder.network.config.encoder.kind, embedder.spec.kind) == ("whisper", "conformer")
    assert registry.load(root / "artifacts/recogniser/arms/joint").spec.kind == "conformer"
    adapt.run(params, root)
    evaluate.run(params, root)
    assert json.loads((root / "artifacts/metrics/evaluate.json").read_text())["headline"]["base"] == "tiny"
    assemble(root, [], root / "bundle")
    words = session_with(find_base(str(root / "bundle"))).embedder
    clip = np.random.default_rng(0).normal(0, 0.1, 12000).astype(np.float32)
    assert words.spec.digest == embedder.spec.digest
    assert torch.equal(*(each.embed(each.prepare([clip])) for each in (words, embedder)))
    other = save_small_whisper(tmp_path / "other", seed=1, states=1500)
    assert training_key(params.model_copy(update={"base": str(other)}), root) != key


def test_the_base_brings_its_start_and_the_rates_of_its_factors(tmp_path: Path) -> None:
    folder = save_small_whisper(tmp_path / "tiny")
    base = registry.load(folder)
    name = base.adapter_targets("lora")[0]
    rows, columns = base.network.get_parameter(name).shape
    lora = LoRA(1, 1.0, {name: (torch.ones(1, columns), torch.ones(rows, 1))})
    about = {registry.RATES: {f"{name}.a": 2.0}}
    save_delta(Delta(base.spec.digest, lora=lora, about=about), folder / registry.START)
    again = registry.load(folder)
    assert again.spec.digest == base.spec.digest
    assert again.start is not None
    assert again.start.targets == (name,)
    assert again.start_rates == {f"{name}.a": 2.0}
    assert not base.start_rates


def test_deltas_are_learned_evaluated_and_packaged(spoken: tuple[Path, Params]) -> None:
    root, params = spoken
    folder = root / "artifacts/recogniser"
    for arm in ("joint", "meta"):
        for file in ("model.safetensors", "config.json"):
            target = folder / "arms" / arm / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((folder / file).read_bytes())
    add_foundation(params, root, clean_store(root), folder)
    adapt.run(params, root)
    metrics = json.loads((root / "artifacts/metrics/adapt.json").read_text())
    assert metrics["base"] == "tiny"
    write_json(root / "artifacts/metrics/metatrain.json", {"chosen": "joint", "steps": {"joint": 1}})
    evaluate.run(params, root)
    headline = json.loads((root / "artifacts/metrics/evaluate.json").read_text())["headline"]
    assert headline["base"] == "tiny"
    assert headline["recordings"] == params.adapt.shots
    assemble(root, ["speaker-2"], root / "bundle")
    assert registry.kind_of(root / "bundle") == "whisper"
    assert registry.kind_of(root / "bundle/embedder") == "conformer"
    assert (root / "bundle/deltas/speaker-2/delta.json").is_file()
    assert not (root / "bundle/embedder/base").exists(), "the base is stored only once"
    with pytest.raises(UserError, match="no delta nobody; expected some of speaker-2"):
        assemble(root, ["nobody"], root / "another")
