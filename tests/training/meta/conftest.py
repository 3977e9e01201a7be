"""Small networks and tasks in double precision, as difference quotients require."""

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
        if "norm.bias" in name:  # zeros behind an item's end would sit on the bend of the rectifier
            torch.nn.init.normal_(value, 0, 0.1)
    return model


@pytest.fixture
def word_tasks() -> list[Task]:
    """Three tasks of three words, taught by two clips each; queries are one clip each and one of no word."""
    random = torch.Generator().manual_seed(3)
    looks = torch.randn(4, 30, 16, generator=random, dtype=torch.float64)

    def half(labels: torch.Tensor) -> Clips:
        noise = torch.randn(len(labels), 30, 16, generator=random, dtype=torch.float64)
        lengths = torch.randint(20, 31, (len(labels),), generator=random)
        return Clips(2 * looks[labels] + noise - 6, lengths, F.one_hot(labels, 4)[:, :3].double())

    return [Task(half(torch.tensor([0, 0, 1, 1, 2, 2])), half(torch.tensor([0, 1, 2, 3]))) for _ in range(3)]


@pytest.fixture
def utterance_tasks() -> list[Task]:
    """Three tasks of three and two utterances, of texts of different lengths."""
    random = torch.Generator().manual_seed(4)

    def half(texts: list[list[int]]) -> Clips:
        mels = torch.randn(len(texts), 40, 16, generator=random, dtype=torch.float64) - 6
        lengths = torch.randint(30, 41, (len(texts),), generator=random)
        return Clips(mels, lengths, torch.tensor([[*text, *[-1] * (4 - len(text))] for text in texts]))

    return [Task(half([[3, 3, 4], [5, 1], [2, 3, 4, 5]]), half([[5, 4, 3], [1]])) for _ in range(3)]
