"""Small networks and tasks in double precision, as finite differences require."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from metavox.recognisers.conformer.network import Network
from metavox.training.meta import Clips, Task


@pytest.fixture
def model(make_model: Callable[..., Network]) -> Network:
    model = make_model().double()
    for name, value in model.named_parameters():
        if "norm.bias" in name:  # zeros in the padding would lie exactly at the kink of the ReLU
            torch.nn.init.normal_(value, 0, 0.1)
    return model


@pytest.fixture
def word_tasks() -> list[Task]:
    """Three tasks of three words with two support clips each; queries are one clip of each and an unknown word."""
    random = torch.Generator().manual_seed(3)
    centres = torch.randn(4, 30, 16, generator=random, dtype=torch.float64)

    def clips(labels: torch.Tensor) -> Clips:
        noise = torch.randn(len(labels), 30, 16, generator=random, dtype=torch.float64)
        lengths = torch.randint(20, 31, (len(labels),), generator=random)
        return Clips(2 * centres[labels] + noise - 6, lengths, F.one_hot(labels, 4)[:, :3].double())

    return [
        Task(clips(torch.tensor([0, 0, 1, 1, 2, 2])), clips(torch.tensor([0, 1, 2, 3]))) for _ in range(3)
    ]


@pytest.fixture
def utterance_tasks() -> list[Task]:
    """Three tasks with three support and two query utterances, whose texts differ in length."""
    random = torch.Generator().manual_seed(4)

    def clips(texts: list[list[int]]) -> Clips:
        mels = torch.randn(len(texts), 40, 16, generator=random, dtype=torch.float64) - 6
        lengths = torch.randint(30, 41, (len(texts),), generator=random)
        return Clips(mels, lengths, torch.tensor([[*text, *[-1] * (4 - len(text))] for text in texts]))

    return [Task(clips([[3, 3, 4], [5, 1], [2, 3, 4, 5]]), clips([[5, 4, 3], [1]])) for _ in range(3)]
