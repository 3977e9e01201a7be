"""Compute what 1,000 GPUs, 100,000 hours and a million tenants would need (docs/research/scale.md).

    python benchmarks/fleet.py

Parameters and operations of a training step are counted (torch.utils.flop_counter) on the meta device, so nothing is
trained. The assumptions are the constants below.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from metavox.config import EncoderConfig, FeatureConfig
from metavox.recognisers.conformer import make_encoder
from metavox.training.selfsupervised import Masking, make_objective

HOURS, EPOCHS = 100_000, 10
GPUS = 1000
PEAK_FLOPS, USED = 989e12, 0.3  # H100 SXM, dense bfloat16, by its data sheet; an assumed share of it
NETWORK_BYTES = 50e9  # per GPU and second: 400 Gbit/s, one adapter a GPU
OPUS_MB_PER_HOUR, DECODE_S_PER_HOUR = 11.8, 7.5  # benchmarks/scale.py
BATCHES_S = (60.0, 600.0)  # of audio, on each GPU
CLIP_FRAMES = 400
MODELS = {
    "default": EncoderConfig(),
    "Conformer-L": EncoderConfig(dim=512, layers=17, heads=8, kernel=31),
    "Conformer-XL": EncoderConfig(dim=1024, layers=24, heads=8, kernel=5),
}


def main() -> None:
    print(f"{HOURS} hours, {EPOCHS} epochs, {GPUS} GPUs, {USED:.0%} of {PEAK_FLOPS / 1e12:.0f} TFLOP/s")
    for name, config in MODELS.items():
        parameters, flops = count(config)
        real_time = PEAK_FLOPS * USED / flops  # seconds of audio a second, on one GPU
        print(
            f"{name}: {parameters / 1e6:.1f} M parameters, {flops / 1e9:.1f} GFLOP per s of audio, {real_time:,.0f} x real "
            f"time on a GPU: {real_time * OPUS_MB_PER_HOUR / 3600:.1f} MB/s of Opus, "
            f"{real_time * DECODE_S_PER_HOUR / 3600:.1f} cores to decode"
        )
        # A ring sends and receives each gradient twice (Patarasuk and Yuan 2009); nothing of it is hidden here.
        exchange_s = 2 * 4 * parameters * (GPUS - 1) / GPUS / NETWORK_BYTES
        for batch_s in BATCHES_S:
            step_s, steps = batch_s / real_time, HOURS * 3600 * EPOCHS / (batch_s * GPUS)
            print(
                f"  {batch_s:.0f} s a GPU: {batch_s * GPUS / 3600:.1f} h in a batch, {steps:,.0f} steps of {1000 * step_s:.2f} "
                f"ms and {1000 * exchange_s:.2f} ms for {4 * parameters / 1e6:.0f} MB of gradients, "
                f"{steps * (step_s + exchange_s) / 60:.0f} min, {step_s / (step_s + exchange_s):.0%} computing"
            )


def count(config: EncoderConfig) -> tuple[int, float]:
    """The parameters, and the floating-point operations of a forward and a backward pass for a second of audio."""
    with torch.device("meta"):
        module = make_objective("masked", make_encoder(config).train(), Masking())
        encoder, mels = module.encoder, torch.empty(1, CLIP_FRAMES, FeatureConfig.mels)
        lengths = torch.full((1,), CLIP_FRAMES)
        with FlopCounterMode(display=False) as counter:
            frames, _ = encoder(mels, lengths)
            module.restore(frames).sum().backward()
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return parameters, counter.get_total_flops() / (CLIP_FRAMES / 100)


if __name__ == "__main__":
    main()
