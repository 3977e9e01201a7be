"""A chart in the dark theme is the same picture as one drawn in the dark colours from the start."""

import base64
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from metavox.intervals import Interval
from metavox.reports import charts
from metavox.reports.charts import Chart
from metavox.reports.charts.attribution import attribution_chart
from metavox.reports.charts.training import curve_chart
from metavox.reports.charts.words import confusion_chart, embedding_chart, slices_chart

RANDOM = np.random.default_rng(0)
STEPS = pd.DataFrame({"step": range(20), "loss": np.linspace(2, 1, 20), "arm": ["joint", "meta"] * 10})
CHARTS: dict[str, Callable[[], Chart | None]] = {
    "bars with error bars": lambda: slices_chart("speaker", ["anna", "bert"], [Interval(0.5, 0.1)] * 2),
    "points and texts in boxes": lambda: embedding_chart(
        RANDOM.normal(size=(40, 2)), np.arange(40) % 4, np.array(["anna", "bert"] * 20), "t-SNE"
    ),
    "white and black texts of its own": lambda: confusion_chart(
        ["no", "yes"], np.array([[0.9, 0.1], [0.2, 0.8]])
    ),
    "images and a colour bar": lambda: attribution_chart(
        *RANDOM.normal(size=(2, 30, 16)), 0.01, "a decision"
    ),
    "lines and a legend": lambda: curve_chart("metatrain", STEPS),
}


@pytest.mark.parametrize("name", CHARTS)
def test_the_dark_picture_is_the_one_drawn_in_dark_colours(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = CHARTS[name]()
    assert chart is not None
    light, dark = (base64.b64decode(uri.split(",")[1]) for uri in chart.uris())
    assert light == chart.png()
    assert light != dark
    monkeypatch.setattr(charts, "LIGHT", charts.DARK)
    assert dark == chart.png()
