"""The page of learned environments: clean speech in some of them, visible and audible, and their distance from recordings."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from matplotlib.figure import Figure

from metavox.audio.features import LogMel, extract
from metavox.audio.render import render
from metavox.reports.charts import Chart
from metavox.reports.charts.training import curve_chart
from metavox.reports.render import Table, data_uri
from metavox.reports.render import render as render_page
from metavox.training.gan import Environment
from metavox.training.gan.monitor import latents

DIAL = (0.0, 0.25, 0.5, 0.75, 1.0)
KINDS = {
    "spectrum": "mean of each band over time, relative to the loudest band",
    "floor": "level between words, relative to the loud frames",
    "movement": "how the bands rise, fall and flicker",
}
SIDES = {
    "clean": "clean speech",
    "begun": "before training",
    "learned": "environments",
    "recordings": "other recordings",
}


@dataclass(frozen=True)
class Sweep:
    """One clip in one environment at several intensities: `samples` (time,) and log-mels `mels` (frames, mel) of each."""

    intensity: tuple[float, ...]
    samples: tuple[np.ndarray, ...]
    mels: tuple[torch.Tensor, ...]


def move(
    generator: Environment,
    samples: np.ndarray,
    latent: torch.Tensor,
    dial: Sequence[float] = DIAL,
    seed: int = 0,
) -> Sweep:
    """Move speech into the environment `latent` (latent,), at each intensity of `dial`.

    `samples` (time,) are at the generator's sample rate.
    """
    transform = LogMel(generator.config.features)
    mels = extract(samples, transform)
    with torch.inference_mode():
        moved = tuple(
            generator(mels[None], latent[None], x, torch.Generator().manual_seed(seed)).squeeze(0)
            for x in dial
        )
    rendered = tuple(
        samples if x == 0 else render(samples, m, transform) for x, m in zip(dial, moved, strict=True)
    )
    return Sweep(tuple(dial), rendered, moved)


def sweeps(
    generator: Environment, clips: Sequence[np.ndarray], seed: int, environments: int = 2
) -> list[list[Sweep]]:
    """Each clip in some environments, the same ones for every clip."""
    drawn = latents(generator, environments, torch.Generator().manual_seed(seed))
    return [[move(generator, clip, latent) for latent in drawn] for clip in clips]


def verdict(figures: Mapping[str, Any]) -> list[str]:
    """Sentences on the figures of a learned GAN: whether it collapsed, and how close it comes to recordings."""
    lines = [
        f"The GAN has collapsed: its environments differ by only {figures['spread']} nepers. Do not use it."
        if figures["collapsed"]
        else f"The GAN has not collapsed: for one utterance its environments differ by {figures['spread']:.2f} nepers on average."
    ]
    for kind, distance in figures["distance"]["learned"].items():
        clean, untrained = (figures["distance"][name][kind] for name in ("clean", "begun"))
        way = "closer" if distance < clean else "no closer"
        gain = (
            f"training reduced the distance from {untrained:.0f} to {distance:.0f}"
            if distance < untrained
            else f"training did not help (the distance was {untrained:.0f} before)"
        )
        lines.append(
            f"In {kind}, its environments are {way} to the recordings than clean speech is ({distance:.0f} and {clean:.0f}); "
            f"{gain}."
        )
    lines.append(
        f"The words are preserved: content loss {figures['content']:.3f} (0 means the same words; different words "
        "are near 1)."
    )
    if figures.get("trouble"):
        lines.append(f"During training, {figures['trouble']}; the best generator before that was kept.")
    return lines


def write_page(
    path: Path,
    title: str,
    figures: Mapping[str, Any],
    history: pd.DataFrame,
    shown: Sequence[Sequence[Sweep]],
    rate: int,
) -> None:
    """Write the page to `path`; `figures` and `history` are those of `Learned`, and `shown` is the result of `sweeps`."""
    rows = [
        [f"{kind}: {what}", *(f"{figures['distance'][side][kind]:.1f}" for side in SIDES)]
        for kind, what in KINDS.items()
    ]
    text = render_page(
        "environment.html",
        title=title,
        verdict=verdict(figures),
        distances=Table(
            "Fréchet distance to held-out recordings, square nepers", ["", *SIDES.values()], rows
        ),
        sweeps=[
            {
                "clip": i + 1,
                "environment": j + 1,
                "chart": spectrograms(moved),
                "sounds": [
                    (f"{x:g}", _flac(samples, rate))
                    for x, samples in zip(moved.intensity, moved.samples, strict=True)
                ],
            }
            for i, clip in enumerate(shown)
            for j, moved in enumerate(clip)
        ],
        chart=curve_chart("the environment GAN", history),
    )
    path.write_text(text, encoding="utf-8")


def spectrograms(moved: Sweep) -> Chart:
    """The log-mels side by side, on one colour scale."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(moved.mels), sharey=True)
        low, high = min(float(m.min()) for m in moved.mels), max(float(m.max()) for m in moved.mels)
        for axes, mels, x in zip(panels, moved.mels, moved.intensity, strict=True):
            axes.imshow(mels.T.numpy(), origin="lower", aspect="auto", vmin=low, vmax=high)
            axes.set(title=f"{x:g}", xticks=[])
        panels[0].set_ylabel("mel band")

    return Chart(draw, 1.7, "Spectrograms of the same words, from clean speech to the full environment.")


def _flac(samples: np.ndarray, rate: int) -> str:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="FLAC", subtype="PCM_16")
    return data_uri(out.getvalue(), "audio/flac")
