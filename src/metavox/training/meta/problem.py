"""The problems that tasks pose: words by their nearest vector, or utterances by CTC.

A problem splits the network into `features`, which cost a pass through it, and a head, which costs almost nothing.
Learners are written in terms of the two, so that each computes only what it needs.
"""

from abc import ABC, abstractmethod

import torch
from torch.nn import functional as F

from metavox.recognisers.conformer import LOGIT_SCALE, Network
from metavox.training.ctc import ctc_loss
from metavox.training.meta.network import StatelessNetwork, Statistics
from metavox.training.meta.task import Clips, Weights

HEAD = "head"  # the word vectors of a task (way, embedding), among the weights and adapted like them
REJECTION_COSINE = 0.35  # above it a clip is more likely one of the words than none; as in enrolment


class Problem(ABC):
    """`body` names the weights that the features depend on, `head` those applied to the features.

    `start_passes` is the extra cost, in passes per support clip, of initialising the head from the features.
    """

    head: tuple[str, ...]
    start_passes = 0.0

    def __init__(self, model: Network, statistics: Statistics = "running"):
        self.network = StatelessNetwork(model, statistics)
        self.body = _feature_weights(self, model)

    @abstractmethod
    def features(self, weights: Weights, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        """The input of the head, and its lengths (clips,)."""

    def with_head(self, weights: Weights, features: torch.Tensor, clips: Clips) -> Weights:
        """The weights including a head, which may be initialised from the features of the support clips."""
        return weights

    @abstractmethod
    def head_loss(
        self, weights: Weights, features: torch.Tensor, lengths: torch.Tensor, clips: Clips
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss and a score in 0..1, from the features of `clips`."""

    def loss(self, weights: Weights, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss and score of the clips, by a full forward pass."""
        return self.head_loss(weights, *self.features(weights, clips), clips)


class Words(Problem):
    """Classification by the cosine to word vectors, which are initialised as class means; the score is the accuracy.

    With `reject`, there is an additional class "none of the words" (other speech or no speech), whose cosine is
    `REJECTION_COSINE` for every clip. It has no weights, because such clips have nothing in common.
    """

    head = (HEAD,)
    start_passes = 2 / 3  # the backward pass through the class means

    def __init__(self, model: Network, reject: bool = False, statistics: Statistics = "running"):
        super().__init__(model, statistics)
        self.reject = reject

    def features(self, weights: Weights, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit embeddings (clips, embedding)."""
        return self.network(weights, lambda model: model.embed(clips.mels, clips.lengths)), clips.lengths

    def with_head(self, weights: Weights, features: torch.Tensor, clips: Clips) -> Weights:
        if HEAD in weights:
            return weights
        return {**weights, HEAD: F.normalize(clips.targets.to(features.dtype).T @ features, dim=1)}

    def head_loss(
        self, weights: Weights, features: torch.Tensor, lengths: torch.Tensor, clips: Clips
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cosines, targets = features @ weights[HEAD].T, clips.targets.to(features.dtype)
        if self.reject:
            cosines = F.pad(cosines, (0, 1), value=REJECTION_COSINE)
            targets = torch.cat([targets, 1 - targets.sum(dim=1, keepdim=True)], dim=1)
        correct = cosines.argmax(dim=1) == targets.argmax(dim=1)
        return F.cross_entropy(LOGIT_SCALE * cosines, targets), correct.to(features.dtype).mean()


class Utterances(Problem):
    """Characters by CTC, with the mean loss per character; the score is the geometric mean probability of a character.

    Utterances whose text does not fit their frames are ignored.
    """

    head = ("ctc.weight", "ctc.bias")

    def features(self, weights: Weights, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoder output (clips, frames, dim) and its lengths (clips,)."""
        return self.network(weights, lambda model: model.encoder(clips.mels, clips.lengths))

    def head_loss(
        self, weights: Weights, features: torch.Tensor, lengths: torch.Tensor, clips: Clips
    ) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs = F.linear(features, weights["ctc.weight"], weights["ctc.bias"]).log_softmax(dim=2)
        counts = (clips.targets >= 0).sum(dim=1)
        losses = ctc_loss(log_probs, clips.targets, lengths, counts, reduction="none", zero_infinity=True)
        loss = losses.sum() / (counts * (losses > 0)).sum().clamp_min(1)
        return loss, (-loss.detach()).exp()


def _feature_weights(problem: Problem, model: Network) -> tuple[str, ...]:
    """Names of the weights that the features depend on: those that get a gradient from a clip of silence."""
    weights = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    reference = next(iter(weights.values()))
    silence = reference.new_zeros(2, 32, model.config.features.width)
    lengths = torch.full((2,), 32, device=reference.device)
    values, _ = problem.features(weights, Clips(silence, lengths, lengths))
    gradients = torch.autograd.grad(values.sum(), list(weights.values()), allow_unused=True)
    return tuple(name for name, gradient in zip(weights, gradients, strict=True) if gradient is not None)
