"""Measure the speed of log-mels, prosody and formants, and what they cost in a training step.

    python benchmarks/frontend.py --seconds 4 --batch 32 --rounds 15

Columns: hours of audio per second (h/s), and the time relative to metavox's log-mels. Values are medians over rounds, each
of which runs every feature once, so that load on the machine slows all of them alike. The last lines give the share of a
training step if each step recomputes the features.
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

WARM_UP_ROUNDS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of audio per clip")
    parser.add_argument("--batch", type=int, default=32, help="clips per batch")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    samples = 0.1 * torch.randn(
        args.batch, round(16000 * args.seconds), generator=torch.Generator().manual_seed(0)
    )
    arms = make_arms(samples)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(args.rounds + WARM_UP_ROUNDS):
        for name, run in arms.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[WARM_UP_ROUNDS:]) for name, values in times.items()}
    hours = args.batch * args.seconds / 3600
    for name, seconds in median.items():
        print(
            f"{name:42} {hours / seconds:8.2f} h/s   {seconds / median['log-mels']:6.2f} x the time of log-mels"
        )
    for name in ("log-mels", "prosody", "formants"):
        share = median[name] / (median["training step"] + median[name])
        print(f"{name} would take {100 * share:.1f}% of a training step that recomputes them")


def make_arms(samples: torch.Tensor) -> dict[str, Callable[[], object]]:
    config = FeatureConfig()
    log_mels = LogMel(config)
    torchaudio_mels = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=512, win_length=config.window, hop_length=config.hop, n_mels=config.mels, f_min=60.0
    )
    mels = log_mels(samples)
    lengths = torch.full((len(mels),), mels.shape[1])
    prosody, formants = (kind(config.sample_rate_hz, config.hop) for kind in EXTRAS.values())
    features = torch.cat([mels, prosody(samples), formants(samples)], dim=2)
    channels = ("mel", "pcen", "envelope", "prosody", "formants")
    front_end = FrontEnd(
        FrontEndConfig(channels, "wiener", "running", True), replace(config, extras=tuple(EXTRAS))
    )

    def without_gradients(run: Callable[[], object]) -> Callable[[], object]:
        return torch.inference_mode()(run)

    return {
        "log-mels": without_gradients(lambda: log_mels(samples)),
        "torchaudio.transforms.MelSpectrogram": without_gradients(
            lambda: torchaudio_mels(samples).clamp_min(1e-8).log()
        ),
        "front end with all options, from features": without_gradients(lambda: front_end(features, lengths)),
        "prosody": without_gradients(lambda: prosody(samples)),
        "formants": without_gradients(lambda: formants(samples)),
        "training step": training_step(mels, lengths),
    }


def training_step(mels: torch.Tensor, lengths: torch.Tensor) -> Callable[[], None]:
    model = Network(ModelConfig()).train()
    perturb, random = Perturbation(), torch.Generator().manual_seed(0)

    def step() -> None:
        perturbed, counts = perturb(mels, lengths, random)
        embeddings, characters = model.embed(perturbed, counts), model.characters(perturbed, counts)[0]
        (embeddings.square().sum() + characters.square().mean()).backward()
        model.zero_grad()

    return step


if __name__ == "__main__":
    main()
