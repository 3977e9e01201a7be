"""Charts of the reports, as PNG for a light and a dark page; the same numbers give the same bytes.

One module per subject, one function per chart.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from metavox.reports.render import data_uri

WIDTH_IN, DPI = 4.6, 150  # narrow, so that text stays legible on a phone
COLOURS = 128
BLUE, ORANGE, GREY = "#3b7dd8", "#d9822b", "#8a8f98"
LIGHT = {"paper": "#ffffff", "ink": "#1c1f24", "line": "#c9ced6"}
DARK = {"paper": "#16191e", "ink": "#e6e8eb", "line": "#4a515c"}
GREEN, RED, VIOLET = "#3f9b5b", "#c8453b", "#8a63c9"
SERIES = (BLUE, ORANGE, GREEN, VIOLET, RED, "#2a9d9d", "#b58900", "#c46a9f", "#6b7f3a", "#7a6a5a")


@dataclass(frozen=True)
class Chart:
    """`draw` fills a figure; `says` describes it for screen readers. `colours` limits the palette; 0 keeps all."""

    draw: Callable[[Figure], None]
    height_in: float
    says: str
    colours: int = COLOURS

    def uri(self, theme: Literal["light", "dark"]) -> str:
        """The picture as a `data:` URI, for a light or a dark page."""
        return data_uri(self._png(LIGHT if theme == "light" else DARK), "image/png")

    def png(self) -> bytes:
        return self._png(LIGHT)

    def _png(self, theme: dict[str, str]) -> bytes:
        colours: dict[Any, Any] = {
            **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme["paper"]),
            **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), theme["ink"]),
            "axes.edgecolor": theme["line"],
            "grid.color": theme["line"],
            "legend.frameon": False,
            "font.family": "DejaVu Sans",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
        with rc_context(colours), warnings.catch_warnings():
            # Letters that the font lacks are drawn as boxes; the tables beside the charts show them.
            warnings.filterwarnings("ignore", message="Glyph")
            figure = Figure(figsize=(WIDTH_IN, self.height_in), dpi=DPI, layout="constrained")
            self.draw(figure)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        if self.colours:  # a palette makes the file three times smaller
            picture = picture.quantize(self.colours, dither=Image.Dither.NONE)
        out = io.BytesIO()
        picture.save(out, "PNG", optimize=True)
        return out.getvalue()
