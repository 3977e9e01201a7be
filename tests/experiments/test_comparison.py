"""The arms' perturbations, the coverage of intervals over seeds, and the table of runs."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.comparison import accuracies, arms, over_seeds, table
from metavox.config import FeatureConfig
from metavox.dataset.episodes import Episode
from metavox.training.gan import Environment, GeneratorConfig


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    mels = torch.randn(6, 60, 16, generator=torch.Generator().manual_seed(0)).cumsum(dim=1) / 4 - 8
    return mels, torch.full((6,), 60)


def test_each_arm_does_what_it_is_named_for() -> None:
    torch.manual_seed(0)
    mels, lengths = clips()
    made = {
        name: arm(mels.clone(), lengths, torch.Generator().manual_seed(1))[0]
        for name, arm in arms(Environment(GeneratorConfig(FeatureConfig(mels=16))).eval()).items()
    }
    assert set(made) == {"none", "specaugment", "noise-reverberation", "classical", "gan", "gan-classical"}
    assert torch.equal(made["none"], mels)
    untouched = torch.isclose(made["specaugment"], mels, atol=1e-4).float().mean()
    assert 0.5 < float(untouched) < 1.0  # all but the masks
    louder = made["noise-reverberation"] >= mels - 1e-3
    assert louder.all()
    assert made["noise-reverberation"].shape == mels.shape
    changed = [not torch.allclose(made["gan"][i], mels[i], atol=1e-3) for i in range(6)]
    assert any(changed)
    assert made["classical"].shape[1] != 60  # its rate moves too


def test_episodes_are_scored_in_every_condition() -> None:
    words = torch.eye(4)
    support = words.unsqueeze(1)
    episode = Episode(("a", "b"), np.array([0, 1]), np.array([0, 1]), np.array([0, 1]), np.array([0, 1]))
    asked = {"clean": words, "swapped": words[[1, 0, 2, 3]], "half": words[[0, 0, 2, 3]]}
    found = accuracies([episode, episode], support, asked)
    assert {name: values.tolist() for name, values in found.items()} == {
        "clean": [1.0, 1.0],
        "swapped": [0.0, 0.0],
        "half": [0.5, 0.5],
    }


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(60):
        seeds = 0.6 + 0.03 * random.normal(size=8)
        found = over_seeds([random.binomial(10, p, 200) / 10 for p in seeds], trial, draws=300)
        hits += abs(found.mean - 0.6) <= found.ci95
    assert hits >= 48
    assert over_seeds([np.full(50, 0.4)] * 3).ci95 == pytest.approx(0.0)


def test_the_table_holds_every_arm_and_its_error_beside_the_baseline_s() -> None:
    rows = [
        {"arm": arm, "seed": seed, "condition": condition, "accuracies": np.full(20, value)}
        for arm, values in {"none": (0.9, 0.5), "better": (0.9, 0.75)}.items()
        for seed in (1, 2)
        for condition, value in zip(("clean", "hall"), values, strict=True)
    ]
    found = table(pd.DataFrame(rows), "none").set_index("arm")
    assert found.loc["none", "clean"] == "90.0"
    assert found.loc["better", "hall"] == "75.0"
    assert found["less error than none, adverse"].tolist() == ["", "50.0"]
    assert found["less error than none, clean"].tolist() == ["", "0.0"]
