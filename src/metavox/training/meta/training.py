"""Meta-training in the training loop: a batch of tasks per step, plus joint training of the other kind of data."""

from typing import Any

import torch
from torch import nn

from metavox.training.joint import JointTask
from metavox.training.meta.batch import meta_gradient
from metavox.training.meta.learner import Learner
from metavox.training.meta.sampling import Curriculum, UtteranceTasks, WordTasks
from metavox.training.meta.task import Clips, Task

OWN_RATE = 100.0  # the logarithms of learning rates must move far, and the learning rate of an arm is small


class MetaTask:
    """The loss of one meta-training step: `tasks` tasks, plus the joint loss of the other kind of data.

    With word tasks these are the utterances of the joint task, with utterance tasks its words.
    """

    def __init__(
        self,
        joint: JointTask,
        learner: Learner,
        sampler: WordTasks | UtteranceTasks,
        tasks: int = 1,
        curriculum: Curriculum | None = None,
    ) -> None:
        self.joint, self.model, self.tasks = joint, joint.model, tasks
        self.learner, self.sampler = learner, sampler
        self.curriculum = curriculum or Curriculum()
        self.classes = joint.classes
        self.meta_parameters = nn.ParameterDict(
            {name.replace(".", "/"): value for name, value in learner.meta_parameters().items()}
        )
        self._of_words = isinstance(sampler, WordTasks)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the joint task (without the word classifier for word tasks) and of the learner."""
        groups = self.joint.groups()[: -1 if self._of_words else None]
        meta_parameters = list(self.meta_parameters.values())
        if not meta_parameters:
            return groups
        return [*groups, {"params": meta_parameters, "faster": OWN_RATE, "weight_decay": 0.0}]

    def learned(self) -> dict[str, torch.Tensor]:
        """The learner's own parameters, by name."""
        return {name.replace("/", "."): value for name, value in self.meta_parameters.items()}

    def frames_per_step(self) -> float:
        """Mean number of frames per step that pass forward and backward through the network in tasks."""
        # An easier word task has fewer words; utterance tasks always have the same size.
        mean_difficulty = self.curriculum.mean if self._of_words else 1.0
        return self.tasks * self.learner.passes(*self.sampler.clips) * self.sampler.frames * mean_difficulty

    def __call__(self, step: int, random: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        difficulty = self.curriculum(step)
        tasks = [
            self._on_device(self.sampler(step * self.tasks + i, difficulty, random))
            for i in range(self.tasks)
        ]
        weights: dict[str, torch.Tensor] = dict(self.model.named_parameters())
        weights |= self.learned()
        device = tasks[0].support.mels.device
        detached = {name: value.detach() for name, value in weights.items()}
        ranks = self.joint.ranks
        mine = tasks[ranks.share(self.tasks)]
        meta = meta_gradient(self.learner, detached, mine, vectorised=device.type != "cpu")
        # A loss whose gradient is the meta-gradient, so that the training loop can treat it like any other.
        surrogate = torch.stack(
            [(weights[n] * gradient).sum() for n, gradient in meta.gradients.items()]
        ).sum()
        weight = len(mine) / float(ranks.sum(torch.tensor(float(len(mine)), device=device)))
        surrogate = weight * surrogate
        meta_loss, score = (float(ranks.sum(weight * value)) for value in (meta.loss, meta.score))
        if not self._of_words:
            loss, record = self.joint(step, random)
            return surrogate + loss, {"ctc": meta_loss, **record}
        ctc = self.joint.utterance_loss(step, random)
        record = {"loss": meta_loss, "ctc": float(ranks.sum(ctc)), "accuracy": score}
        return surrogate + ctc, record

    def _on_device(self, task: Task) -> Task:
        return Task(*(Clips(*self.joint.compute.move(*clips)) for clips in task))
