"""augment: a GAN learns what recordings sound like that synthetic speech does not, and shows it."""

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from metavox.audio.read import read_audio
from metavox.dataset.store import LogMels, Store
from metavox.errors import UserError
from metavox.files import written_aside
from metavox.params import Params
from metavox.pipeline.artifacts import CHECKPOINTS, clean_store, learnable, run_key, write_metrics, write_plot
from metavox.reports.environments import Sweep, spectrograms, sweeps, write_page
from metavox.threads import limit
from metavox.training.gan import (
    Crops,
    GanConfig,
    GanData,
    GeneratorConfig,
    learn_environments,
    save_generator,
)

HELD_OUT = 0.15  # of the clips, by which the GAN is judged
FEW = 20  # synthetic clips; with fewer, the cleanest recordings stand for clean speech
FULL_BAND, QUIET_DB = 0.9, 30.0  # of half the rate; what counts as a clean recording


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated} -> artifacts/environments: the generator, a page, samples to hear and see."""
    chosen = params.augment
    if params.features.kind != "mel":
        _none(root)
        return
    limit("large batches")
    train = learnable(clean_store(root), "train")
    sides = split(train, chosen.crop_frames, params.seed)
    key = run_key(__name__, params, ("features", "augment"), root, ("artifacts/validated/manifest.parquet",))
    config = GanConfig(
        chosen.steps,
        chosen.batch,
        chosen.learning_rate,
        chosen.gradient_penalty,
        params.seed,
        root / CHECKPOINTS,
        key,
    )
    learned = learn_environments(sides, GeneratorConfig(train.config, chosen.latent), config)
    clips = _clips(train, root, chosen.samples, params.seed)
    with written_aside(root / "artifacts/environments") as folder:
        (folder / "samples").mkdir(parents=True)
        save_generator(learned.generator, folder)
        shown = sweeps(learned.generator, clips, params.seed)
        for number, clip in enumerate(shown):
            _write_sample(clip[number % len(clip)], train.config.sample_rate_hz, folder / "samples", number)
        write_page(
            folder / "report.html",
            "Environments that the GAN learned",
            learned.evaluation,
            learned.history,
            shown,
            train.config.sample_rate_hz,
        )
    write_plot(root, "augment", learned.history)
    write_metrics(root, "augment", learned.evaluation)


def _none(root: Path) -> None:
    """Environments are of log-mels: where features are samples there are none, and nothing asks for them."""
    with written_aside(root / "artifacts/environments") as folder:
        folder.mkdir()
        (folder / "none.txt").write_text("features.kind is waveform: no environments\n")
    write_plot(root, "augment", pd.DataFrame({"step": [0], "content": [0.0]}))
    write_metrics(root, "augment", {"environments": "none: features.kind is waveform"})


def split(train: Store, crop_frames: int, seed: int) -> GanData:
    """Synthetic speech is the clean side, recordings the adverse one; neither is paired with the other.

    Without synthetic speech, quiet recordings of the full band are the clean side, and the others the adverse one.
    Raises UserError when one side has too few clips.
    """
    rows = train.rows
    clean = rows["synthetic"].to_numpy(bool)
    if clean.sum() < FEW:
        full = rows["bandwidth_hz"] >= FULL_BAND * train.config.sample_rate_hz / 2
        clean = clean | (full & (rows["snr_db"] >= QUIET_DB)).to_numpy(bool)
    held = np.random.default_rng(seed).random(len(rows)) < HELD_OUT

    def crops(chosen: np.ndarray) -> Crops:
        numbers = np.flatnonzero(chosen)
        speakers = rows["speaker"].to_numpy()[numbers]
        return Crops(
            LogMels(train), [numbers[speakers == speaker] for speaker in pd.unique(speakers)], crop_frames
        )

    parts = [crops(chosen) for chosen in (clean & ~held, ~clean & ~held, clean & held, ~clean & held)]
    if not all(part.groups for part in parts):
        raise UserError(
            f"augment: {int(clean.sum())} clean (synthetic, or {QUIET_DB:.0f} dB over their noise) and {int((~clean).sum())} "
            "other training clips; expected some dozens of both to learn environments from"
        )
    return GanData(*parts)


def _clips(train: Store, root: Path, count: int, seed: int) -> list[np.ndarray]:
    """Clean clips of about a second, to be heard: (time,) each."""
    rows = train.rows[train.rows["synthetic"] & train.rows["duration_s"].between(0.6, 1.5)]
    rows = rows if len(rows) else train.rows
    picked = rows.sample(min(count, len(rows)), random_state=seed)
    return [read_audio(root / "data" / path, train.config.sample_rate_hz) for path in picked["path"]]


def _write_sample(moved: Sweep, rate: int, folder: Path, number: int) -> None:
    soundfile.write(folder / f"{number}-clean.wav", moved.samples[0], rate)
    soundfile.write(folder / f"{number}-environment.wav", moved.samples[-1], rate)
    both = Sweep(moved.intensity[:: len(moved.intensity) - 1], (), moved.mels[:: len(moved.mels) - 1])
    (folder / f"{number}.png").write_bytes(spectrograms(both).png())
