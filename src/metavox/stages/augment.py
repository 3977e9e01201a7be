"""augment: a GAN learns how real recordings differ from clean synthetic speech, and a page shows what it learned."""

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

HELD_OUT = 0.15  # share of the clips on which the GAN is evaluated
MIN_SYNTHETIC = 20  # with fewer synthetic clips, the cleanest recordings serve as clean speech
FULL_BAND = 0.9  # bandwidth of a clean recording, as a share of the Nyquist frequency
QUIET_DB = 30.0  # SNR of a clean recording


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated} -> artifacts/environments: the generator, a page, and audible and visible samples.

    Raises UserError when there are too few clean or too few other clips.
    """
    config = params.augment
    if params.features.kind != "mel":
        _none(root, params.features.kind)
        return
    limit("large batches")
    train = learnable(clean_store(root), "train")
    sides = split(train, config.crop_frames, params.seed)
    key = run_key(__name__, params, ("features", "augment"), root, ("artifacts/validated/manifest.parquet",))
    training = GanConfig(
        config.steps,
        config.batch,
        config.learning_rate,
        config.gradient_penalty,
        params.seed,
        root / CHECKPOINTS,
        key,
    )
    learned = learn_environments(sides, GeneratorConfig(train.config, config.latent), training)
    clips = _clips(train, root, config.samples, params.seed)
    with written_aside(root / "artifacts/environments") as folder:
        (folder / "samples").mkdir(parents=True)
        save_generator(learned.generator, folder)
        shown = sweeps(learned.generator, clips, params.seed)
        for i, clip in enumerate(shown):
            _write_sample(clip[i % len(clip)], train.config.sample_rate_hz, folder / "samples", i)
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


def _none(root: Path, kind: str) -> None:
    """Write empty artifacts: environments apply to the log-mels of the kind `mel` only."""
    with written_aside(root / "artifacts/environments") as folder:
        folder.mkdir()
        (folder / "none.txt").write_text(f"features.kind is {kind}: no environments\n")
    write_plot(root, "augment", pd.DataFrame({"step": [0], "content": [0.0]}))
    write_metrics(root, "augment", {"environments": f"none: features.kind is {kind}"})


def split(train: Store, crop_frames: int, seed: int) -> GanData:
    """The unpaired training data of the GAN: synthetic speech as the clean side, recordings as the adverse side.

    Without enough synthetic speech, quiet full-band recordings join the clean side. Raises UserError when either side
    has too few clips.
    """
    rows = train.rows
    clean = rows["synthetic"].to_numpy(bool)
    if clean.sum() < MIN_SYNTHETIC:
        full = rows["bandwidth_hz"] >= FULL_BAND * train.config.sample_rate_hz / 2
        clean = clean | (full & (rows["snr_db"] >= QUIET_DB)).to_numpy(bool)
    held_out = np.random.default_rng(seed).random(len(rows)) < HELD_OUT

    def crops(mask: np.ndarray) -> Crops:
        index = np.flatnonzero(mask)
        speakers = rows["speaker"].to_numpy()[index]
        return Crops(
            LogMels(train), [index[speakers == speaker] for speaker in pd.unique(speakers)], crop_frames
        )

    masks = (clean & ~held_out, ~clean & ~held_out, clean & held_out, ~clean & held_out)
    sides = [crops(mask) for mask in masks]
    if not all(side.groups for side in sides):
        raise UserError(
            f"augment: {int(clean.sum())} clean (synthetic, or {QUIET_DB:.0f} dB above their noise) and "
            f"{int((~clean).sum())} other training clips; expected some dozens of both to learn environments from"
        )
    return GanData(*sides)


def _clips(train: Store, root: Path, count: int, seed: int) -> list[np.ndarray]:
    """Synthetic clips of about a second for the samples, (time,) each; any clips where there is no synthetic speech."""
    rows = train.rows[train.rows["synthetic"] & train.rows["duration_s"].between(0.6, 1.5)]
    rows = rows if len(rows) else train.rows
    picked = rows.sample(min(count, len(rows)), random_state=seed)
    return [read_audio(root / "data" / path, train.config.sample_rate_hz) for path in picked["path"]]


def _write_sample(sweep: Sweep, rate: int, folder: Path, index: int) -> None:
    soundfile.write(folder / f"{index}-clean.wav", sweep.samples[0], rate)
    soundfile.write(folder / f"{index}-environment.wav", sweep.samples[-1], rate)
    ends = Sweep(sweep.intensity[:: len(sweep.intensity) - 1], (), sweep.mels[:: len(sweep.mels) - 1])
    (folder / f"{index}.png").write_bytes(spectrograms(ends).png())
