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


def test_each_arm_perturbs_as_its_name_says() -> None:
    torch.manual_seed(0)
    mels, lengths = clips()
    perturbed = {
        name: arm(mels.clone(), lengths, torch.Generator().manual_seed(1))[0]
        for name, arm in arms(Environment(GeneratorConfig(FeatureConfig(mels=16))).eval()).items()
    }
    assert set(perturbed) == {
        "none",
        "specaugment",
        "noise-reverberation",
        "classical",
        "gan",
        "gan-classical",
    }
    assert torch.equal(perturbed["none"], mels)
    untouched = torch.isclose(perturbed["specaugment"], mels, atol=1e-4).float().mean()
    assert 0.5 < float(untouched) < 1.0  # all but the masks
    louder = perturbed["noise-reverberation"] >= mels - 1e-3
    assert louder.all()
    assert perturbed["noise-reverberation"].shape == mels.shape
    changed = [not torch.allclose(perturbed["gan"][i], mels[i], atol=1e-3) for i in range(6)]
    assert any(changed)
    assert perturbed["classical"].shape[1] != 60  # the speaking rate changes too


def test_accuracies_are_given_for_every_condition() -> None:
    words = torch.eye(4)
    support = words.unsqueeze(1)
    episode = Episode(("a", "b"), np.array([0, 1]), np.array([0, 1]), np.array([0, 1]), np.array([0, 1]))
    queries = {"clean": words, "swapped": words[[1, 0, 2, 3]], "half": words[[0, 0, 2, 3]]}
    results = accuracies([episode, episode], support, queries)
    assert {name: values.tolist() for name, values in results.items()} == {
        "clean": [1.0, 1.0],
        "swapped": [0.0, 0.0],
        "half": [0.5, 0.5],
    }


def test_the_interval_over_seeds_has_its_nominal_coverage() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(60):
        seed_accuracies = 0.6 + 0.03 * random.normal(size=8)
        interval = over_seeds(
            [random.binomial(10, accuracy, 200) / 10 for accuracy in seed_accuracies], trial, draws=300
        )
        covered += abs(interval.mean - 0.6) <= interval.ci95
    assert covered >= 48
    assert over_seeds([np.full(50, 0.4)] * 3).ci95 == pytest.approx(0.0)


def test_the_table_has_every_arm_and_its_error_reduction() -> None:
    rows = [
        {"arm": arm, "seed": seed, "condition": condition, "accuracies": np.full(20, value)}
        for arm, values in {"none": (0.9, 0.5), "better": (0.9, 0.75)}.items()
        for seed in (1, 2)
        for condition, value in zip(("clean", "hall"), values, strict=True)
    ]
    result = table(pd.DataFrame(rows), "none").set_index("arm")
    assert result.loc["none", "clean"] == "90.0"
    assert result.loc["better", "hall"] == "75.0"
    assert result["less error than none, adverse"].tolist() == ["", "50.0"]
    assert result["less error than none, clean"].tolist() == ["", "0.0"]
