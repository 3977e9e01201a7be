"""Models on disk: saving and loading, and one-line errors for broken folders."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metavox.errors import UserError
from metavox.recognisers.conformer.artifact import digest, load_model, save_model
from metavox.recognisers.conformer.network import Network


@pytest.fixture
def folder(make_model: Callable[..., Network], tmp_path: Path) -> Path:
    save_model(make_model(alphabet=" 'aбü"), tmp_path / "model", "# card\n")
    return tmp_path / "model"


def test_a_loaded_model_is_equal_and_in_evaluation_mode(
    folder: Path, make_model: Callable[..., Network]
) -> None:
    model, loaded = make_model(alphabet=" 'aбü"), load_model(folder)
    assert loaded.config == model.config
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert sorted(p.name for p in folder.iterdir()) == ["card.md", "config.json", "model.safetensors"]


def test_the_digest_covers_weights_and_configuration_but_not_the_card(
    folder: Path, make_model: Callable[..., Network]
) -> None:
    digests = {digest(folder)}
    (folder / "card.md").write_text("other")
    digests.add(digest(folder))
    assert len(digests) == 1
    for model in (make_model(seed=1, alphabet=" 'aбü"), make_model(alphabet=" 'aбö")):
        save_model(model, folder, "")
        digests.add(digest(folder))
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", None),
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"features": {}}'),
        ("model.safetensors", None),
        ("model.safetensors", "not tensors"),
        ("encoder.dim", "wide"),
        ("encoder.dim", 32),
        ("encoder.channels", -1),
        ("features.mels", 65),
    ],
)
def test_a_broken_folder_is_a_one_line_error_that_names_it(
    folder: Path, name: str, content: str | int | None
) -> None:
    section, _, key = name.partition(".")
    if section in ("encoder", "features"):
        config = json.loads((folder / "config.json").read_text())
        config[section][key] = content
        name, content = "config.json", json.dumps(config)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(str(content))
    with pytest.raises(UserError) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_loaded(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="not a complete model"):
        load_model(folder)
    assert not (tmp_path / "ran").exists()
