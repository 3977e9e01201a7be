"""A site's noise: does a learned environment help words that are taught at a desk? From the project's folder:

    python benchmarks/environment.py NOISE ENVIRONMENT

ENVIRONMENT is what `metavox augment learn NOISE` made. A word is taught by one clean clip and seven perturbed views of it,
and asked of another speaker with the noise's last fifth under it, which nothing learned from. Test speakers, the base model.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from experiments.comparison import Unchanged, accuracies
from metavox.audio.classical import noise
from metavox.audio.features import LogMel, extract
from metavox.audio.perturb import Perturb
from metavox.audio.read import read_audio
from metavox.dataset.episodes import EpisodeSampler, EpisodeShape
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
    chosen = parser.parse_args()
    model = load_model(default_embedder().folder)
    transform, rate = LogMel(model.config.features), model.config.features.sample_rate_hz
    pieces = read_site(chosen.noise, rate).pieces
    first = round((1 - HELD_OUT) * len(pieces))
    generator = load_generator(chosen.environment, model.config.features)

    store = clean_store(Path())
    rows = store.rows
    words = store.where(
        (rows["split"] == "test") & rows["unit"].isin(("word", "letter")) & (rows["frames"] > 0)
    )
    random = np.random.default_rng(0)
    sampler = EpisodeSampler(words.rows, EpisodeShape(10, 1, 1, "cross-speaker"))
    episodes = [sampler(random) for _ in range(EPISODES)]
    used = np.unique(np.concatenate([part for e in episodes for part in (e.support, e.query)]))
    clips = [read_audio(Path("data", words.rows["path"].iloc[row]), rate) for row in used]

    def heard(parts: list[np.ndarray], low: float, high: float) -> list[torch.Tensor]:
        """Each clip over a stretch of the noise."""
        out = []
        for clip in clips:
            part = np.roll(parts[random.integers(len(parts))], random.integers(rate))
            mixed = noise(clip, part, float(random.uniform(low, high)))
            out.append(extract(np.ascontiguousarray(mixed), transform))
        return out

    clean = [extract(clip, transform) for clip in clips]
    plain = embed_mels(model, clean)
    views = {
        "no views": plain,
        "gentle views": views_of(model, [clean] * COPIES, VIEWS),
        "gentle, half of them in the environment": views_of(
            model, [clean] * COPIES, Environments(generator, 0.5, VIEWS)
        ),
        "the site's own noise under them, 0 to 25 dB": views_of(
            model, [heard(pieces[:first], 0, 25) for _ in range(COPIES)], Unchanged()
        ),
    }
    asked = {f"{snr:g} dB": embed_mels(model, heard(pieces[first:], snr, snr))[:, 0] for snr in SNRS_DB}
    asked = {"clean": plain[:, 0], **asked}
    place = np.zeros(len(words), int)
    place[used] = np.arange(len(used))
    drawn = [
        type(e)(e.words, place[e.support], e.support_labels, place[e.query], e.query_labels) for e in episodes
    ]
    print(f"{len(used)} clips, {EPISODES} episodes of 10 words, one clip each")
    print("| views | " + " | ".join(asked) + " |")
    print("|---" * (1 + len(asked)) + "|")
    for name, taught in views.items():
        support = taught if taught is plain else torch.cat([plain, taught], dim=1)
        found = accuracies(drawn, support, asked)
        print(f"| {name} | " + " | ".join(str(mean_interval(values)) for values in found.values()) + " |")


def views_of(model: Network, copies: list[list[torch.Tensor]], perturb: Perturb) -> torch.Tensor:
    """Each copy of the clips, perturbed: (clips, copies, embedding)."""
    random = torch.Generator().manual_seed(0)
    out = torch.empty(len(copies[0]), len(copies), model.config.embedding)
    with torch.inference_mode():
        for number, mels in enumerate(copies):
            order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                out[part, number] = model.embed(*perturb(*pad([mels[i] for i in part]), random))
    return out


if __name__ == "__main__":
    main()
