"""What a task asks of the network: words by their nearest vector, or utterances by CTC.

A problem splits the network in two: `features`, which cost a pass through it, and a head on them, which costs next to
nothing. Learners are written in these two, so that each pays only for what it needs.
"""

from abc import ABC, abstractmethod

import torch
from torch.nn import functional as F

from metavox.recognisers.conformer import LOGIT_SCALE, Network
from metavox.training.ctc import ctc_loss
from metavox.training.meta.network import StatelessNetwork, Statistics
from metavox.training.meta.task import Clips, Weights

HEAD = "head"  # among the weights: the task's word vectors (way, embedding), adapted like any other
NONE = (
    0.35  # cosine at which a clip is as likely none of the words as one of them; enrolment's for other words
)


class Problem(ABC):
    """`body`: the model's weights that features depend on; `head`: the weights that are applied to features.

    `start_passes`: what learning costs on top where the head begins from the features, in passes a support clip.
    """

    head: tuple[str, ...]
    start_passes = 0.0

    def __init__(self, model: Network, statistics: Statistics = "running"):
        self.network = StatelessNetwork(model, statistics)
        self.body = _reached(self, model)

    @abstractmethod
    def features(self, weights: Weights, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        """What the head sees, and the lengths of that (clips,)."""

    def begin(self, weights: Weights, features: torch.Tensor, clips: Clips) -> Weights:
        """The weights with a head, which a task may begin from its support's features."""
        return weights

    @abstractmethod
    def judge(
        self, weights: Weights, features: torch.Tensor, lengths: torch.Tensor, clips: Clips
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss, and a score in 0..1."""

    def loss(self, weights: Weights, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        """A whole pass: mean loss and score of the clips."""
        return self.judge(weights, *self.features(weights, clips), clips)


class Words(Problem):
    """Cosines to the task's word vectors, which begin as the class means; the score is the accuracy.

    `reject`: there is one class more, none of the words (other speech, or no speech), whose cosine is `NONE` for every
    clip. It has no weights, as what is none of the words is not one thing.
    """

    head = (HEAD,)
    start_passes = 2 / 3  # the way back through the class means

    def __init__(self, model: Network, reject: bool = False, statistics: Statistics = "running"):
        super().__init__(model, statistics)
        self.reject = reject

    def features(self, weights: Weights, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit embeddings (clips, embedding)."""
        return self.network(weights, lambda model: model.embed(clips.mels, clips.lengths)), clips.lengths

    def begin(self, weights: Weights, features: torch.Tensor, clips: Clips) -> Weights:
        if HEAD in weights:
            return weights
        return {**weights, HEAD: F.normalize(clips.targets.to(features.dtype).T @ features, dim=1)}

    def judge(
        self, weights: Weights, features: torch.Tensor, lengths: torch.Tensor, clips: Clips
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cosines, targets = features @ weights[HEAD].T, clips.targets.to(features.dtype)
        if self.reject:
            cosines = F.pad(cosines, (0, 1), value=NONE)
            targets = torch.cat([targets, 1 - targets.sum(dim=1, keepdim=True)], dim=1)
        right = cosines.argmax(dim=1) == targets.argmax(dim=1)
        return F.cross_entropy(LOGIT_SCALE * cosines, targets), right.to(features.dtype).mean()


class Utterances(Problem):
    """Characters by CTC, mean loss a character; the score is the geometric mean of a character's probability.

    Utterances whose text does not fit their frames count as nothing.
    """

    head = ("ctc.weight", "ctc.bias")

    def features(self, weights: Weights, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        """Context frames (clips, frames, dim), their lengths."""
        return self.network(weights, lambda model: model.encoder(clips.mels, clips.lengths))

    def judge(
        self, weights: Weights, features: torch.Tensor, lengths: torch.Tensor, clips: Clips
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs = F.linear(features, weights["ctc.weight"], weights["ctc.bias"]).log_softmax(dim=2)
        counts = (clips.targets >= 0).sum(dim=1)
        losses = ctc_loss(log_probs, clips.targets, lengths, counts, reduction="none", zero_infinity=True)
        loss = losses.sum() / (counts * (losses > 0)).sum().clamp_min(1)
        return loss, (-loss.detach()).exp()


def _reached(problem: Problem, model: Network) -> tuple[str, ...]:
    """Names of the weights that features depend on: those that a clip of silence sends a slope to."""
    weights = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    like = next(iter(weights.values()))
    silence = like.new_zeros(2, 32, model.config.features.width)
    lengths = torch.full((2,), 32, device=like.device)
    values, _ = problem.features(weights, Clips(silence, lengths, lengths))
    slopes = torch.autograd.grad(values.sum(), list(weights.values()), allow_unused=True)
    return tuple(name for name, slope in zip(weights, slopes, strict=True) if slope is not None)
