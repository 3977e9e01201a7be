"""A small recogniser and recordings to adapt it to."""

from collections.abc import Callable

import pytest

from metavox.adaptation.fine_tune import Recordings
from metavox.dataset.store import Store
from metavox.recognisers.conformer.network import Network
from tests.adaptation.tuning import BASE, Small


@pytest.fixture
def base(make_model: Callable[..., Network]) -> Small:
    return Small(make_model().requires_grad_(False), "small", BASE)


@pytest.fixture
def utterances(make_store: Callable[..., Store]) -> Recordings:
    store = make_store()
    rows = store.rows.index[store.rows["unit"] == "sentence"]
    return Recordings([store[row] for row in rows], store.rows.loc[rows, "text"].tolist())
