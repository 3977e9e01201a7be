"""Measure self-supervised pretraining in seconds of audio per second, by objective and precision.

    python benchmarks/pretraining.py --batch-s 60 --rounds 7 --threads 1

A step is one of the pretrain stage: a batch of noise in clips of 4 s is perturbed and masked, and a forward pass, a
backward pass and the optimizer follow. Values are medians over alternating rounds. On a CPU, time is this process's CPU time in all threads, on
which other load has little influence; on a GPU it is wall time.

Columns: objective, precision, seconds of audio per second, milliseconds per step, TFLOP/s (matrix products and
convolutions, counted by torch.utils.flop_counter), and on a GPU their share of the dense bfloat16 peak in its data sheet.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from metavox.config import EncoderConfig, FeatureConfig
from metavox.recognisers.conformer import make_encoder
from metavox.training.device import Compute, Precision, compute
from metavox.training.loop import step_if_finite
from metavox.training.selfsupervised import Masking, Objective, PretrainTask, make_objective

CLIP_FRAMES = 400
WARM_UP_ROUNDS = 2
# Dense bfloat16 peaks from data sheets, by a part of the device's name; the first match counts.
PEAKS_TFLOPS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "RTX A6000": 155.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch-s", type=float, default=60.0, help="seconds of audio per batch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dim", type=int, default=EncoderConfig.dim, help="of the conformer")
    parser.add_argument("--layers", type=int, default=EncoderConfig.layers)
    parser.add_argument("--channels", type=int, default=EncoderConfig.channels)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clips = max(1, round(100 * args.batch_s / CLIP_FRAMES))
    config = EncoderConfig(dim=args.dim, layers=args.layers, channels=args.channels)
    arms = {
        (objective, precision): make_step(objective, compute(precision), clips, config)
        for objective in get_args(Objective)
        for precision in get_args(Precision)
    }
    device = compute().device
    times: dict[tuple[Objective, Precision], list[float]] = {arm: [] for arm in arms}
    for number in range(args.rounds + WARM_UP_ROUNDS):
        for arm, step in arms.items():
            times[arm].append(timed(step, number, device))
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {args.threads} threads"
    batch_s = clips * CLIP_FRAMES / 100
    print(f"{name}; batches of {batch_s:.0f} s")
    for (objective, precision), values in times.items():
        seconds = statistics.median(values[WARM_UP_ROUNDS:])
        flops = count_flops(arms[objective, precision]) / seconds
        print(
            f"{objective:8}{precision:10}{batch_s / seconds:8.0f} s of audio/s {1000 * seconds:8.0f} ms/step "
            f"{flops / 1e12:8.3f} TFLOP/s{share_of_peak(flops, name, device)}"
        )


def make_step(
    objective: Objective, device: Compute, clips: int, config: EncoderConfig
) -> Callable[[int], object]:
    torch.manual_seed(0)
    mels = torch.randn(clips, CLIP_FRAMES, FeatureConfig.mels) * 2 - 7
    lengths = torch.full((clips,), CLIP_FRAMES)
    module = make_objective(objective, make_encoder(config).train(), Masking())
    task = PretrainTask(module, lambda _: (mels, lengths), device)
    parameters = list(task.model.parameters())
    optimizer = torch.optim.AdamW(parameters, 1e-4)
    return lambda step: step_if_finite(task(step, torch.Generator().manual_seed(step)), optimizer, parameters)


def timed(step: Callable[[int], object], number: int, device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    step(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def count_flops(step: Callable[[int], object]) -> int:
    """Floating-point operations of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step(0)
    return counter.get_total_flops()


def share_of_peak(flops_per_s: float, name: str, device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    peak = next((value for part, value in PEAKS_TFLOPS.items() if part in name), None)
    if peak is None:
        return f"  (the bfloat16 peak of {name} is not listed)"
    return f"  {100 * flops_per_s / 1e12 / peak:.2f}% of the bfloat16 peak ({peak:.0f} TFLOP/s)"


if __name__ == "__main__":
    main()
