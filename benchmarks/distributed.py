"""Compare two processes of torchrun, of one thread each, with one process of one thread and of two.

    python benchmarks/distributed.py [--batch-s 30] [--steps 5] [--rounds 2]

A step is one of self-supervised pretraining (`masked`) with the default encoder on noise in clips of 4 s; the batch is the
same in all settings. Every setting runs in processes of its own, and the rounds alternate. Beside another busy process the
ratios say little: the load is printed.

Columns: the setting, the median seconds of a step, and steps per second relative to one process of one thread. Then: the
share of a step that draws and perturbs the batch, which every process repeats, and the bytes of the gradients, which the
processes exchange in each step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict

import torch

from metavox.audio.perturb import Perturbation
from metavox.config import EncoderConfig, FeatureConfig
from metavox.recognisers.conformer import make_encoder
from metavox.training.device import compute
from metavox.training.distributed import launched
from metavox.training.loop import step_if_finite
from metavox.training.selfsupervised import Masking, PretrainTask, make_objective

SETTINGS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread": (2, 1)}
CLIP_FRAMES, WARM_UP_STEPS = 400, 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-s", type=float, default=30.0)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        measure(args.batch_s, args.steps, args.threads)
        return
    seconds: dict[str, list[float]] = defaultdict(list)
    drawing = gradient_bytes = 0.0
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for _ in range(args.rounds):
        for setting, (processes, threads) in SETTINGS.items():
            launcher = [
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node",
                str(processes),
            ]
            options = ["--batch-s", str(args.batch_s), "--steps", str(args.steps), "--threads", str(threads)]
            command = [sys.executable, *(launcher if processes > 1 else []), __file__, *options]
            result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            seconds[setting] += result["seconds"]
            if processes == threads == 1:
                drawing, gradient_bytes = result["drawing"], result["gradient_bytes"]
    one = statistics.median(seconds["1 process, 1 thread"])
    for setting, values in seconds.items():
        print(f"{setting:22s} {statistics.median(values):6.2f} s {one / statistics.median(values):6.2f}")
    print(f"drawing and perturbing: {100 * drawing:.1f}% of a step of one process")
    print(f"gradients: {gradient_bytes / 1e6:.1f} MB; load after: {os.getloadavg()[0]:.1f}")


def measure(batch_s: float, steps: int, threads: int) -> None:
    """Print the seconds of each step, as JSON."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    clips = max(1, round(100 * batch_s / CLIP_FRAMES))
    mels, lengths = (
        torch.randn(clips, CLIP_FRAMES, FeatureConfig.mels) * 2 - 7,
        torch.full((clips,), CLIP_FRAMES),
    )
    with launched() as ranks:
        module = make_objective("masked", make_encoder(EncoderConfig()).train(), Masking())
        channels = Perturbation(mask_chance=0.0)
        task = PretrainTask(module, lambda _: (mels, lengths), compute(ranks=ranks), channels)
        parameters = list(task.model.parameters())
        optimizer = torch.optim.AdamW(parameters, 1e-4)
        seconds, drawing = [], []
        for step in range(steps + WARM_UP_STEPS):
            start = time.monotonic()
            loss = task(step, torch.Generator().manual_seed(step))
            step_if_finite(loss, optimizer, parameters, ranks=ranks)
            seconds.append(time.monotonic() - start)
            start = time.monotonic()
            channels(mels, lengths, torch.Generator().manual_seed(step))
            drawing.append(time.monotonic() - start)
        share = statistics.median(drawing) / statistics.median(seconds)
        gradient_bytes = sum(p.numel() * p.element_size() for p in parameters)
        print(
            json.dumps(
                {"seconds": seconds[WARM_UP_STEPS:], "drawing": share, "gradient_bytes": gradient_bytes}
            )
        )


if __name__ == "__main__":
    main()
