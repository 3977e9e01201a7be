"""Charts of the reports, as PNG for a light and a dark page; the same numbers give the same bytes.

One module per subject, one function per chart.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from metavox.reports.render import data_uri

WIDTH_IN, DPI = 4.6, 150  # narrow, so that text stays legible on a phone
COLOURS = 128
BLUE, ORANGE, GREY = "#3b7dd8", "#d9822b", "#8a8f98"
# Of the paper, the ink and the lines. The light ones differ from the same colours in a chart, too little to be seen.
LIGHT = [tuple(part * (1 - 1e-9) for part in to_rgb(colour)) for colour in ("#ffffff", "#1c1f24", "#c9ced6")]
DARK = [to_rgb(colour) for colour in ("#16191e", "#e6e8eb", "#4a515c")]
_DARK = dict(zip(LIGHT, DARK, strict=True))
GREEN, RED, VIOLET = "#3f9b5b", "#c8453b", "#8a63c9"
SERIES = (BLUE, ORANGE, GREEN, VIOLET, RED, "#2a9d9d", "#b58900", "#c46a9f", "#6b7f3a", "#7a6a5a")


@dataclass(frozen=True)
class Chart:
    """`draw` fills a figure; `says` describes it for screen readers. `colours` limits the palette; 0 keeps all."""

    draw: Callable[[Figure], None]
    height_in: float
    says: str
    colours: int = COLOURS

    def uris(self) -> tuple[str, str]:
        """The picture as `data:` URIs, for a light and for a dark page."""
        with _style():
            figure = self._figure()
            light = self._png(figure)
            figure.set_layout_engine("none")  # the layout is the same, and takes a third of the time
            _darken(figure)
            dark = self._png(figure)
        return data_uri(light, "image/png"), data_uri(dark, "image/png")

    def png(self) -> bytes:
        with _style():
            return self._png(self._figure())

    def _figure(self) -> Figure:
        figure = Figure(figsize=(WIDTH_IN, self.height_in), dpi=DPI, layout="constrained")
        self.draw(figure)
        return figure

    def _png(self, figure: Figure) -> bytes:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        if self.colours:  # a palette makes the file three times smaller
            picture = picture.quantize(self.colours, dither=Image.Dither.NONE)
        out = io.BytesIO()
        picture.save(out, "PNG", optimize=True)
        return out.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    """The style of all charts, in the light colours."""
    paper, ink, line = LIGHT
    style: dict[Any, Any] = {
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), paper),
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), ink),
        "axes.edgecolor": line,
        "grid.color": line,
        "legend.frameon": False,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(style), warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes; the tables beside the charts show them.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def _darken(figure: Figure) -> None:
    """Replace the light colours of everything in the figure by the dark ones."""
    artists = figure.findobj()
    boxes = [artist.get_bbox_patch() for artist in artists if isinstance(artist, Text)]
    for artist in (*artists, *filter(None, boxes)):
        for kind in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            if hasattr(artist, f"get_{kind}") and hasattr(artist, f"set_{kind}"):
                colours = to_rgba_array(getattr(artist, f"get_{kind}")())
                rgb = [tuple(colour[:3]) for colour in colours]
                if any(colour in _DARK for colour in rgb):
                    dark = np.column_stack([[_DARK.get(colour, colour) for colour in rgb], colours[:, 3]])
                    getattr(artist, f"set_{kind}")(dark if len(dark) > 1 else tuple(dark[0]))
