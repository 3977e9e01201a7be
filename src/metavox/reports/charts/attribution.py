"""Chart of the contribution of each part of a recording to a decision."""

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from metavox.reports.charts import Chart


def attribution_chart(mels: np.ndarray, attribution: np.ndarray, hop_s: float, says: str) -> Chart:
    """Log-mels (frames, mel), and the smoothed contribution of each cell to the decision, of the same shape."""
    smooth = gaussian_filter(attribution, 1.0)
    limit = float(np.quantile(np.abs(smooth), 0.995)) or 1.0
    extent = (0.0, len(mels) * hop_s, 0.0, float(mels.shape[1]))

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 1, sharex=True)
        panels[0].imshow(mels.T, origin="lower", aspect="auto", cmap="gray", extent=extent)
        panels[1].imshow(mels.T, origin="lower", aspect="auto", cmap="gray_r", alpha=0.35, extent=extent)
        shown = panels[1].imshow(
            smooth.T,
            origin="lower",
            aspect="auto",
            cmap="bwr",
            vmin=-limit,
            vmax=limit,
            extent=extent,
            alpha=np.clip(np.abs(smooth.T) / limit, 0, 1) ** 0.7,
        )
        for axes, name in zip(panels, ("recording", "red supports the answer, blue opposes it"), strict=True):
            axes.set_title(name, fontsize=9)
            axes.set_ylabel("mel band")
            axes.set_yticks([])
        panels[1].set_xlabel("time, s")
        figure.colorbar(
            shown,
            ax=panels[1],
            shrink=0.9,
            ticks=[-limit, 0, limit],
            format=lambda v, _: f"{v:+.2f}" if v else "0",
        )

    return Chart(draw, 3.1, says, colours=0)
