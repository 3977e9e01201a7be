"""An adapter with which Whisper transcribes a short clip in a short context, instead of padding it to 30 s.

The base model itself is the teacher. It transcribes clips at its full context of 30 s; its confident transcripts are
kept with their token probabilities. A LoRA adapter then learns to give the same probabilities for the clip with little
padding (knowledge distillation, Hinton et al. 2015; LoRA, Hu et al. 2021). Clips of noise and silence always get an
empty target, whatever the base transcribes.
"""

from metavox.training.short_context.clips import clips, noise_clip
from metavox.training.short_context.config import ShortContextConfig
from metavox.training.short_context.teacher import DistillationTarget, read_targets, write_targets
from metavox.training.short_context.training import train

__all__ = [
    "DistillationTarget",
    "ShortContextConfig",
    "clips",
    "noise_clip",
    "read_targets",
    "train",
    "write_targets",
]
