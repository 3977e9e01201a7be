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
    whitened = loaded.embed(*store.batch([0, 1])).detach()
    assert not torch.allclose(whitened, plain)
    torch.testing.assert_close(whitened, model.cohort(plain))
    torch.testing.assert_close(whitened.norm(dim=1), torch.ones(2))
    embeddings = model.cohort.embeddings.clone()
    build_cohort(model, store, count=30)
    torch.testing.assert_close(
        model.cohort.embeddings, embeddings, msg="a second cohort of the same store must be equal"
    )


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
    whitened = points @ within_class_whitening(points, labels, shrink=0.0)
    residuals = whitened - torch.stack([whitened[labels == k].mean(0) for k in range(50)])[labels]
    torch.testing.assert_close(residuals.T @ residuals / 950, torch.eye(6), atol=1e-3, rtol=0)


def test_thresholds_accept_the_requested_share() -> None:
    random = np.random.default_rng(0)
    best = torch.from_numpy(random.gumbel(0.2, 0.1, 100_000))
    assert float((best >= false_accept_threshold(best, 0.01)).double().mean()) == pytest.approx(
        0.01, abs=1e-4
    )
    thresholds = [extreme_quantile(best[i : i + 50], 0.01) for i in range(0, 5000, 50)]
    assert float((best >= float(np.mean(thresholds))).double().mean()) == pytest.approx(0.01, abs=0.004)


def test_the_fitted_logit_scale_calibrates_confidences() -> None:
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(5, (4000,), generator=random)
    scores = 0.25 * F.one_hot(labels, 5) + 0.2 * torch.randn(4000, 5, generator=random)
    fitted = fit_logit_scale(scores[:2000], labels[:2000], 16.0)

    def error(logit_scale: float) -> float:
        probabilities = (logit_scale * scores[2000:]).softmax(1)
        return reliability(
            probabilities.amax(1).numpy(), (probabilities.argmax(1) == labels[2000:]).numpy()
        ).expected_error

    assert error(fitted) < 0.03 < error(16.0)


def test_reliability_of_known_bins() -> None:
    bins = reliability([0.95, 0.95, 0.55, 1.0], [True, False, True, True])
    assert bins.count.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert bins.expected_error == pytest.approx((0.45 + abs(2.9 - 2)) / 4)
