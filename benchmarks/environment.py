"""Measure whether an environment learned from a site's noise helps to recognise, in it, words taught without it.

    python -m benchmarks.environment NOISE ENVIRONMENT

Run it from the project folder, after the pipeline. ENVIRONMENT is the result of `metavox augment learn NOISE`. The default
embedder learns each word from one clean clip and seven perturbed views of it. The queries are clips of another test
speaker, clean or mixed with the last fifth of the noise, which neither the environment nor the views contain.

The table shows accuracy in % with 95% intervals: one row per kind of view, one column per condition of the queries.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from experiments.comparison import Unchanged, accuracies
from metavox.audio.classical import noise
from metavox.audio.features import LogMel, extract
from metavox.audio.perturb import Perturb
from metavox.audio.read import read_audio
from metavox.dataset.episodes import Episode, EpisodeSampler, EpisodeShape
from metavox.enrolment.prototypes import VIEWS, embed_mels
from metavox.environments import HELD_OUT, read_site
from metavox.metrics.rates import mean_interval
from metavox.pipeline.artifacts import clean_store
from metavox.recognisers.bases.find import default_embedder
from metavox.recognisers.conformer import Network, load_model, pad
from metavox.training.gan import Environments, load_generator

SNRS_DB = (10.0, 0.0)
EPISODES, COPIES, BATCH = 600, 7, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("noise", type=Path)
    parser.add_argument("environment", type=Path)
    args = parser.parse_args()
    model = load_model(default_embedder().folder)
    transform, rate = LogMel(model.config.features), model.config.features.sample_rate_hz
    pieces = read_site(args.noise, rate).pieces
    held_out = round((1 - HELD_OUT) * len(pieces))
    environment = Environments(load_generator(args.environment, model.config.features), 0.5, VIEWS)
    random = np.random.default_rng(0)
    episodes, paths = draw_episodes(random)
    clips = [read_audio(path, rate) for path in paths]

    def add_noise(noises: list[np.ndarray], low_db: float, high_db: float) -> list[torch.Tensor]:
        mels = []
        for clip in clips:
            piece = np.roll(noises[random.integers(len(noises))], random.integers(rate))
            mixed = noise(clip, piece, float(random.uniform(low_db, high_db)))
            mels.append(extract(np.ascontiguousarray(mixed), transform))
        return mels

    clean = [extract(clip, transform) for clip in clips]
    clean_embeddings = embed_mels(model, clean)
    views = embed_views(model, clean, environment, lambda: add_noise(pieces[:held_out], 0, 25))
    queries = {"clean": clean_embeddings[:, 0]}
    for snr in SNRS_DB:
        queries[f"at {snr:g} dB"] = embed_mels(model, add_noise(pieces[held_out:], snr, snr))[:, 0]
    print(f"{len(clips)} clips, {EPISODES} episodes of 10 words, one clip each")
    print("| views | " + " | ".join(queries) + " |")
    print("|---" * (1 + len(queries)) + "|")
    for name, embeddings in ({"none": None} | views).items():
        support = clean_embeddings if embeddings is None else torch.cat([clean_embeddings, embeddings], dim=1)
        results = accuracies(episodes, support, queries)
        print(f"| {name} | " + " | ".join(str(mean_interval(values)) for values in results.values()) + " |")


def draw_episodes(random: np.random.Generator) -> tuple[list[Episode], list[Path]]:
    """Cross-speaker episodes of test speakers, which index the clips at the returned paths."""
    store = clean_store(Path())
    rows = store.rows
    words = store.where(
        (rows["split"] == "test") & rows["unit"].isin(("word", "letter")) & (rows["frames"] > 0)
    )
    sampler = EpisodeSampler(words.rows, EpisodeShape(10, 1, 1, "cross-speaker"))
    episodes = [sampler(random) for _ in range(EPISODES)]
    used = np.unique(np.concatenate([clips for e in episodes for clips in (e.support, e.query)]))
    index = np.zeros(len(words), int)
    index[used] = np.arange(len(used))
    episodes = [replace(e, support=index[e.support], query=index[e.query]) for e in episodes]
    return episodes, [Path("data", words.rows["path"].iloc[row]) for row in used]


def embed_views(
    model: Network, clean: list[torch.Tensor], environment: Perturb, noisy: Callable[[], list[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Embeddings (clips, COPIES, embedding) of each kind of views."""
    return {
        "mild perturbation, as in enrolment": embed_perturbed(model, [clean] * COPIES, VIEWS),
        "the same, half of them in the learned environment": embed_perturbed(
            model, [clean] * COPIES, environment
        ),
        "the noise itself added to the clip, 0 to 25 dB": embed_perturbed(
            model, [noisy() for _ in range(COPIES)], Unchanged()
        ),
    }


def embed_perturbed(model: Network, copies: list[list[torch.Tensor]], perturb: Perturb) -> torch.Tensor:
    """Embeddings (clips, copies, embedding) of perturbed clips."""
    random = torch.Generator().manual_seed(0)
    embeddings = torch.empty(len(copies[0]), len(copies), model.config.embedding)
    with torch.inference_mode():
        for number, mels in enumerate(copies):
            order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                embeddings[batch, number] = model.embed(*perturb(*pad([mels[i] for i in batch]), random))
    return embeddings


if __name__ == "__main__":
    main()
