"""augment: a GAN learns what recordings sound like that synthetic speech does not, and shows it."""

import copy
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import soundfile
import torch

from metavox.audio.features import FeatureConfig, LogMel, extract
from metavox.audio.read import read_audio
from metavox.audio.render import render
from metavox.corpus.store import Store
from metavox.errors import UserError
from metavox.files import written_aside
from metavox.learn.gan import (
    COLLAPSED,
    Discriminator,
    Environment,
    EnvironmentGan,
    GeneratorConfig,
    Watch,
    content_loss,
    distance,
    save_generator,
    spread,
)
from metavox.learn.loop import Training
from metavox.params import Params
from metavox.stages.common import CHECKPOINTS, clean_store, learnable, run_key, write_metrics, write_plot


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated} -> artifacts/environments: the generator, and samples to hear and see."""
    chosen = params.augment
    if params.features.kind != "mel":
        _none(root)
        return
    train = learnable(clean_store(root), "train")
    clean, adverse = split(train, chosen.crop_frames)
    torch.manual_seed(params.seed)
    config = GeneratorConfig(train.config.mels, chosen.latent)
    gan = EnvironmentGan(
        Environment(config), Discriminator(config.mels), chosen.learning_rate, chosen.gradient_penalty
    )

    look = crops(clean, 32, chosen.crop_frames, torch.Generator().manual_seed(params.seed))
    watch = Watch(gan.generator, copy.deepcopy(gan.generator), look)

    def update(step: int, random: torch.Generator) -> dict[str, float]:
        record = gan.step(
            crops(clean, chosen.batch, chosen.crop_frames, random),
            crops(adverse, chosen.batch, chosen.crop_frames, random),
            random,
        )
        watch(step, record)
        return record

    history = Training(
        "augment", {"generator": gan.generator, "discriminator": gan.discriminator, "good": watch.good},
        {"generator_optimizer": gan.generator_optimizer, "discriminator_optimizer": gan.discriminator_optimizer},
        update, chosen.steps, params.seed, root / CHECKPOINTS,
        run_key(params, ("features", "augment"), root, ("artifacts/validated/manifest.parquet",)), 100,
    ).run()  # fmt: skip
    watch.settle()
    gan.generator.eval()
    with written_aside(root / "artifacts/environments") as folder:
        (folder / "samples").mkdir(parents=True)
        save_generator(gan.generator, folder)
        write_samples(gan.generator, train, root, folder / "samples", chosen.samples, params.seed)
    write_plot(root, "augment", history)
    write_metrics(
        root,
        "augment",
        judge(gan.generator, clean, adverse, chosen.crop_frames, params.seed) | {"trouble": watch.trouble},
    )


def _none(root: Path) -> None:
    """Environments are of log-mels: where features are samples there are none, and nothing asks for them."""
    with written_aside(root / "artifacts/environments") as folder:
        folder.mkdir()
        (folder / "none.txt").write_text("features.kind is waveform: no environments\n")
    write_plot(root, "augment", pd.DataFrame({"step": [0], "content": [0.0]}))
    write_metrics(root, "augment", {"environments": "none: features.kind is waveform"})


def split(train: Store, crop_frames: int) -> tuple[Store, Store]:
    """Synthetic speech is the clean side, recordings the adverse one; neither is paired with the other.

    Raises UserError when one side is empty.
    """
    long_enough = train.rows["frames"] >= crop_frames // 2
    clean = train.where(train.rows["synthetic"] & long_enough)
    adverse = train.where(~train.rows["synthetic"] & long_enough)
    if not len(clean) or not len(adverse):
        raise UserError(
            f"augment: {len(clean)} synthetic and {len(adverse)} recorded training clips of at least "
            f"{crop_frames // 2} frames; expected some of both to learn environments from"
        )
    return clean, adverse


def crops(store: Store, batch: int, frames: int, random: torch.Generator) -> torch.Tensor:
    """Random stretches of random rows: (batch, frames, mel); a short row is repeated."""
    out = []
    for row in torch.randint(len(store), (batch,), generator=random).tolist():
        mels = store[row]
        if len(mels) < frames:
            mels = mels.repeat(-(-frames // len(mels)), 1)
        start = int(torch.randint(len(mels) - frames + 1, (1,), generator=random))
        out.append(mels[start : start + frames])
    return torch.stack(out)


def judge(
    generator: Environment, clean: Store, adverse: Store, frames: int, seed: int, clips: int = 256
) -> dict[str, object]:
    """Are its environments different, are the words still there, and is it nearer to the recordings?"""
    random = torch.Generator().manual_seed(seed)
    mels, real = crops(clean, clips, frames, random), crops(adverse, clips, frames, random)
    with torch.inference_mode():
        moved = generator(mels, torch.randn(clips, generator.config.latent, generator=random))
        content = float(content_loss(mels[:32], moved[:32]))
    width = spread(generator, mels[:32], seed)
    return {
        "content": round(content, 4), "spread": round(width, 4), "collapsed": width < COLLAPSED,
        "distance_before": round(distance(mels, real), 2), "distance": round(distance(moved, real), 2),
    }  # fmt: skip


def write_samples(
    generator: Environment, train: Store, root: Path, folder: Path, count: int, seed: int
) -> None:
    """Clean clips and their environments, as audio and as spectrograms."""
    transform = LogMel(FeatureConfig(**train.config.as_dict()))
    rows = train.rows[train.rows["synthetic"] & train.rows["duration_s"].between(0.6, 1.5)]
    picked = rows.sample(min(count, len(rows)), random_state=seed)
    random = torch.Generator().manual_seed(seed)
    for i, path in enumerate(picked["path"]):
        samples = read_audio(root / "data" / path, train.config.sample_rate_hz)
        mels = extract(samples, transform)
        with torch.inference_mode():
            latent = torch.randn(1, generator.config.latent, generator=random)
            moved = generator(mels.unsqueeze(0), latent).squeeze(0)
        soundfile.write(folder / f"{i}-clean.wav", samples, train.config.sample_rate_hz)
        soundfile.write(
            folder / f"{i}-environment.wav", render(samples, moved, transform), train.config.sample_rate_hz
        )
        _draw(mels.numpy(), moved.numpy(), folder / f"{i}.png")


def _draw(clean: np.ndarray, moved: np.ndarray, path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(7, 2.2), sharey=True, constrained_layout=True)
    low, high = min(clean.min(), moved.min()), max(clean.max(), moved.max())
    for axis, mels, title in zip(axes, (clean, moved), ("clean", "environment"), strict=True):
        axis.imshow(mels.T, origin="lower", aspect="auto", vmin=low, vmax=high)
        axis.set(title=title, xlabel="frame (10 ms)")
    axes[0].set_ylabel("mel band")
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)
