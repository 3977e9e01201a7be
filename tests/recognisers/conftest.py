"""Fixtures of the contract tests, which run on a small random model of every kind of recogniser."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metavox.recognisers import registry
from metavox.recognisers.recogniser import Recogniser
from tests.recognisers.contract import CLIPS, KINDS, Kind, is_unchanged, state


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    folder.mkdir()
    kind.write(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Recogniser:
    return registry.load(folder, "small")


@pytest.fixture
def base(loaded: Recogniser) -> Iterator[Recogniser]:
    """The recogniser; afterwards, checks that the test changed neither its weights nor the clips."""
    before, clips = state(loaded), [clip.copy() for clip in CLIPS]
    yield loaded
    assert is_unchanged(loaded, before)
    assert not any(p.requires_grad or p.grad is not None for p in loaded.network.parameters())
    for clip, copy in zip(CLIPS, clips, strict=True):
        np.testing.assert_array_equal(clip, copy)
