"""What metatrain starts from: the pretrained encoder, or an existing recogniser."""

from pathlib import Path

import pytest
import torch
from small_pipeline import PARAMS

from metavox.errors import UserError
from metavox.params import Params
from metavox.pipeline.arms import training_key
from metavox.pipeline.artifacts import clean_store, learnable
from metavox.pipeline.models import initial_model
from metavox.recognisers.conformer.artifact import save_model
from metavox.recognisers.conformer.network import Network


def starting_from(start: str) -> Params:
    return PARAMS.model_copy(update={"metatrain": PARAMS.metatrain.model_copy(update={"start": start})})


def test_training_starts_from_the_named_model_and_the_checkpoint_key_depends_on_it(project: Path) -> None:
    train = learnable(clean_store(project), "train")
    earlier, key = initial_model(PARAMS, project, train), training_key(PARAMS, project)
    with torch.no_grad():
        for weight in earlier.parameters():
            weight.add_(1.0)
    save_model(earlier, project / "earlier", "# earlier\n")
    params = starting_from(str(project / "earlier"))
    started = initial_model(params, project, train)
    for (name, one), other in zip(started.named_parameters(), earlier.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert training_key(params, project) != key


def test_a_model_of_another_shape_is_a_one_line_error(project: Path, make_model: type[Network]) -> None:
    save_model(make_model(), project / "other", "# of another shape\n")
    with pytest.raises(UserError, match=r"metatrain\.start .*other: (embedding|encoder\.)"):
        initial_model(
            starting_from(str(project / "other")), project, learnable(clean_store(project), "train")
        )


def test_a_base_of_another_kind_is_a_one_line_error(project: Path) -> None:
    (project / "whisper").mkdir()
    (project / "whisper/config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(UserError, match="whisper"):
        initial_model(
            starting_from(str(project / "whisper")), project, learnable(clean_store(project), "train")
        )
