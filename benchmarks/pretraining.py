"""Self-supervised pretraining: seconds of audio a second, by objective and precision, on this machine's device.

    python benchmarks/pretraining.py --batch-s 60 --rounds 7 --threads 1

One step is what the pretrain stage does: a batch of noise of four seconds a clip is perturbed, hidden in part, passed
forward and back, and the weights move. Rounds are interleaved; medians. On a CPU the seconds are those that this process
computed (of all its threads), so that a busy machine changes little. On a GPU they are the clock's, and the share of the
card's peak in bfloat16 is printed: floating-point operations of matrix products and convolutions
(torch.utils.flop_counter) a second, against the dense figure of the card's data sheet.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from metavox.recognisers.conformer import EncoderConfig, make_encoder
from metavox.training.device import Compute, Precision, compute
from metavox.training.loop import step_if_finite
from metavox.training.selfsupervised import Masking, Objective, PretrainTask, make_objective

CLIP_FRAMES = 400
# Dense bfloat16 peaks in TFLOP/s, of the makers' data sheets; the first name that the device's holds.
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
    wanted = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    wanted.add_argument("--batch-s", type=float, default=60.0)
    wanted.add_argument("--rounds", type=int, default=7)
    wanted.add_argument("--threads", type=int, default=1)
    wanted.add_argument("--dim", type=int, default=EncoderConfig.dim, help="of the Conformer")
    wanted.add_argument("--layers", type=int, default=EncoderConfig.layers)
    wanted.add_argument("--channels", type=int, default=EncoderConfig.channels)
    given = wanted.parse_args()
    torch.set_num_threads(given.threads)
    clips = max(1, round(100 * given.batch_s / CLIP_FRAMES))
    config = EncoderConfig(dim=given.dim, layers=given.layers, channels=given.channels)
    arms = {
        (objective, precision): step_of(objective, compute(precision), clips, config)
        for objective in get_args(Objective)
        for precision in get_args(Precision)
    }
    device = compute().device
    times: dict[tuple[Objective, Precision], list[float]] = {arm: [] for arm in arms}
    for round_ in range(given.rounds + 2):
        for arm, step in arms.items():
            times[arm].append(timed(step, round_, device))
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {given.threads} threads"
    print(f"{name}; batches of {clips * CLIP_FRAMES / 100:.0f} s")
    for (objective, precision), values in times.items():
        seconds = statistics.median(values[2:])
        heard = clips * CLIP_FRAMES / 100 / seconds
        flops = operations(arms[objective, precision])
        print(
            f"{objective:8}{precision:10}{heard:8.0f} audio-seconds/s {1000 * seconds:8.0f} ms/step "
            f"{flops / seconds / 1e12:8.3f} TFLOP/s{share(flops / seconds, name, device)}"
        )


def step_of(objective: Objective, how: Compute, clips: int, config: EncoderConfig) -> Callable[[int], object]:
    torch.manual_seed(0)
    mels = torch.randn(clips, CLIP_FRAMES, config.mels) * 2 - 7
    lengths = torch.full((clips,), CLIP_FRAMES)
    module = make_objective(objective, make_encoder(config).train(), Masking())
    task = PretrainTask(module, lambda _: (mels, lengths), how)
    parameters = list(task.model.parameters())
    optimizer = torch.optim.AdamW(parameters, 1e-4)
    return lambda step: step_if_finite(task(step, torch.Generator().manual_seed(step)), optimizer, parameters)


def timed(step: Callable[[int], object], number: int, device: torch.device) -> float:
    """Seconds of one step."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    step(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def operations(step: Callable[[int], object]) -> int:
    """Floating-point operations of one step, forward and back."""
    with FlopCounterMode(display=False) as counter:
        step(0)
    return counter.get_total_flops()


def share(flops_a_second: float, name: str, device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    peak = next((value for known, value in PEAKS_TFLOPS.items() if known in name), None)
    if peak is None:
        return f"  (no bfloat16 peak is known here for {name})"
    return f"  {100 * flops_a_second / 1e12 / peak:.2f}% of the bfloat16 peak ({peak:.0f} TFLOP/s)"


if __name__ == "__main__":
    main()
