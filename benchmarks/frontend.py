"""Measure the speed of log-mels, prosody and formants in hours of audio per second, beside torchaudio's log-mels, and
their share of a training step.

    python benchmarks/frontend.py --seconds 4 --batch 32 --rounds 15

Rounds alternate between the arms, so that load on the machine slows all of them; medians, and ratios to metavox's
log-mels.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torchaudio

from metavox.audio.features import EXTRAS, LogMel
from metavox.audio.perturb import Perturbation
from metavox.config import FeatureConfig, FrontEndConfig
from metavox.recognisers.conformer import FrontEnd, ModelConfig, Network


def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    wanted.add_argument("--seconds", type=float, default=4.0)
    wanted.add_argument("--batch", type=int, default=32)
    wanted.add_argument("--rounds", type=int, default=15)
    given = wanted.parse_args()
    samples = 0.1 * torch.randn(
        given.batch, round(16000 * given.seconds), generator=torch.Generator().manual_seed(0)
    )
    rounds = arms(samples)
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for _ in range(given.rounds + 2):
        for name, run in rounds.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    median = {name: statistics.median(values[2:]) for name, values in times.items()}
    hours = given.batch * given.seconds / 3600
    for name, seconds in median.items():
        print(f"{name:42} {hours / seconds:8.2f} h/s   {seconds / median['log-mels']:6.2f} times ours")
    for name in ("log-mels", "prosody", "formants"):
        share = median[name] / (median["training step"] + median[name])
        print(f"{name} are {100 * share:.1f}% of a training step that makes its own")


def arms(samples: torch.Tensor) -> dict[str, Callable[[], object]]:
    config = FeatureConfig()
    ours = LogMel(config)
    theirs = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=512, win_length=config.window, hop_length=config.hop, n_mels=config.mels, f_min=60.0
    )
    mels = ours(samples)
    lengths = torch.full((len(mels),), mels.shape[1])
    prosody, formants = (kind(config.sample_rate_hz, config.hop) for kind in EXTRAS.values())
    extended = replace(config, extras=tuple(EXTRAS))
    features = torch.cat([mels, prosody(samples), formants(samples)], dim=2)
    every = ("mel", "pcen", "envelope", "prosody", "formants")
    everything = FrontEnd(FrontEndConfig(every, "wiener", "running", True), extended)
    model = Network(ModelConfig()).train()
    perturb, random = Perturbation(), torch.Generator().manual_seed(0)

    def step() -> None:
        moved, count = perturb(mels, lengths, random)
        loss = model.embed(moved, count).square().sum() + model.characters(moved, count)[0].square().mean()
        loss.backward()
        model.zero_grad()

    def without_slope(run: Callable[[], object]) -> Callable[[], object]:
        return torch.inference_mode()(run)

    return {
        "log-mels": without_slope(lambda: ours(samples)),
        "torchaudio.transforms.MelSpectrogram": without_slope(lambda: theirs(samples).clamp_min(1e-8).log()),
        "front end with all on, from features": without_slope(lambda: everything(features, lengths)),
        "prosody": without_slope(lambda: prosody(samples)),
        "formants": without_slope(lambda: formants(samples)),
        "training step": step,
    }


if __name__ == "__main__":
    main()
