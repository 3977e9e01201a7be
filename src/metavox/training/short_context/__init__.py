"""An adapter that lets Whisper hear a short clip in a short context, instead of in 30 s of padding.

Learnt once, from the base itself: at 30 s it writes a clip down, and where it is sure of each token is kept; a low-rank
adapter then learns to write the same, as sure, with the clip padded by moments alone (knowledge distillation, Hinton et
al. 2015; LoRA, Hu et al. 2021). Clips of noise and silence have no words, whatever the base makes of them.
"""

from metavox.training.short_context.clips import clips, noise_clip
from metavox.training.short_context.config import ShortContextConfig
from metavox.training.short_context.teacher import Lesson, read_lessons, write_lessons
from metavox.training.short_context.training import train

__all__ = ["Lesson", "ShortContextConfig", "clips", "noise_clip", "read_lessons", "train", "write_lessons"]
