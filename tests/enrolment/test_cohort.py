"""Open-set recognition: the cohort, thresholds and calibration."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metavox.dataset.store import Store
from metavox.enrolment.open_set import (
    build_cohort,
    extreme_quantile,
    false_accept_threshold,
    fit_logit_scale,
    reliability,
)
from metavox.errors import UserError
from metavox.recognisers.conformer.artifact import load_model, save_model
from metavox.recognisers.conformer.cohort import within_class_whitening
from metavox.recognisers.conformer.network import Network


def test_the_cohort_is_saved_with_the_model_and_whitens_its_embeddings(
    make_model: Callable[..., Network], make_store: Callable[..., Store], tmp_path: Path
) -> None:
    model, store = make_model(), make_store()
    plain = model.embed(*store.batch([0, 1])).detach()
    build_cohort(model, store, count=30)
    assert model.cohort is not None
    save_model(model, tmp_path / "model", "# card\n")
    loaded = load_model(tmp_path / "model")
    assert loaded.config.cohort == len(model.cohort.embeddings) <= 30
    moved = loaded.embed(*store.batch([0, 1])).detach()
    assert not torch.allclose(moved, plain)
    torch.testing.assert_close(moved, model.cohort(plain))
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(2))
    embeddings = model.cohort.embeddings.clone()
    build_cohort(model, store, count=30)
    torch.testing.assert_close(model.cohort.embeddings, embeddings, msg="made again, the same")


def test_a_store_without_words_gives_no_cohort(
    make_model: Callable[..., Network], make_store: Callable[..., Store]
) -> None:
    store = make_store()
    with pytest.raises(UserError, match="fewer than two"):
        build_cohort(make_model(), store.where(store.rows["unit"] == "sentence"))


def test_whitening_makes_classes_isotropic() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(50).repeat_interleave(20)
    spread = torch.diag(torch.linspace(0.1, 3, 6))
    points = torch.randn(50, 6, generator=random)[labels] + torch.randn(1000, 6, generator=random) @ spread
    moved = points @ within_class_whitening(points, labels, shrink=0.0)
    apart = moved - torch.stack([moved[labels == k].mean(0) for k in range(50)])[labels]
    torch.testing.assert_close(apart.T @ apart / 950, torch.eye(6), atol=1e-3, rtol=0)


def test_thresholds_accept_the_requested_share() -> None:
    random = np.random.default_rng(0)
    best = torch.from_numpy(random.gumbel(0.2, 0.1, 100_000))
    assert float((best >= false_accept_threshold(best, 0.01)).double().mean()) == pytest.approx(
        0.01, abs=1e-4
    )
    few = [extreme_quantile(best[i : i + 50], 0.01) for i in range(0, 5000, 50)]
    assert float((best >= float(np.mean(few))).double().mean()) == pytest.approx(0.01, abs=0.004)


def test_the_fitted_logit_scale_calibrates_confidences() -> None:
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(5, (4000,), generator=random)
    scores = 0.25 * F.one_hot(labels, 5) + 0.2 * torch.randn(4000, 5, generator=random)
    factor = fit_logit_scale(scores[:2000], labels[:2000], 16.0)

    def error(sharpness: float) -> float:
        chances = (sharpness * scores[2000:]).softmax(1)
        return reliability(
            chances.amax(1).numpy(), (chances.argmax(1) == labels[2000:]).numpy()
        ).expected_error

    assert error(factor) < 0.03 < error(16.0)


def test_reliability_of_known_bins() -> None:
    found = reliability([0.95, 0.95, 0.55, 1.0], [True, False, True, True])
    assert found.count.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert found.expected_error == pytest.approx((0.45 + abs(2.9 - 2)) / 4)
