"""Meta-training as a task of the training loop: a batch of tasks a step, and joint training so that the rest is kept."""

from typing import Any

import torch
from torch import nn

from metavox.training.joint import JointTask
from metavox.training.meta.batch import meta_gradient, vectorise
from metavox.training.meta.learner import Learner
from metavox.training.meta.sampling import Curriculum, UtteranceTasks, WordTasks
from metavox.training.meta.task import Clips, Task

OWN_RATE = 100.0  # logarithms of rates have far to go, and an arm's rate is small


class MetaTask:
    """Loss of one meta-training step: `tasks` tasks, and what joint training does of the other kind.

    With tasks of words these are the joint task's utterances, with tasks of utterances its words.
    """

    def __init__(
        self,
        joint: JointTask,
        how: Learner,
        draw: WordTasks | UtteranceTasks,
        tasks: int = 1,
        curriculum: Curriculum | None = None,
    ) -> None:
        self.joint, self.model, self.how, self.draw, self.tasks = joint, joint.model, how, draw, tasks
        self.curriculum = curriculum or Curriculum()
        self.classes = joint.classes
        self.own = nn.ParameterDict({name.replace(".", "/"): value for name, value in how.own().items()})
        self._of_words = isinstance(draw, WordTasks)

    def groups(self) -> list[dict[str, Any]]:
        """As the joint task's, without the word classes where tasks bring their own; and what the learner learns."""
        groups = self.joint.groups()[: -1 if self._of_words else None]
        own = list(self.own.values())
        return [*groups, {"params": own, "faster": OWN_RATE, "weight_decay": 0.0}] if own else groups

    def learned(self) -> dict[str, torch.Tensor]:
        """What the learner has learned besides the model's weights, by name."""
        return {name.replace("/", "."): value for name, value in self.own.items()}

    def frames_a_step(self) -> float:
        """Frames of tasks that pass through the network and back in a step, on average."""
        easier = self.curriculum.mean if self._of_words else 1.0  # fewer words; utterances are as many
        return self.tasks * self.how.passes(*self.draw.clips) * self.draw.frames * easier

    def __call__(self, step: int, random: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        hard = self.curriculum(step)
        tasks = [self._placed(self.draw(step * self.tasks + i, hard, random)) for i in range(self.tasks)]
        weights: dict[str, torch.Tensor] = dict(self.model.named_parameters())
        weights |= self.learned()
        fixed = {name: value.detach() for name, value in weights.items()}
        found = meta_gradient(self.how, fixed, tasks, vectorise(self.how, tasks[0].support.mels.device))
        # A loss whose gradient is the one given: the optimizer need not know where it came from.
        surrogate = torch.stack([(weights[n] * slope).sum() for n, slope in found.slopes.items()]).sum()
        if not self._of_words:
            loss, record = self.joint(step, random)
            return surrogate + loss, {"ctc": float(found.loss), **record}
        ctc = self.joint.utterances(step, random)
        record = {"loss": float(found.loss), "ctc": float(ctc.detach()), "accuracy": float(found.score)}
        return surrogate + ctc, record

    def _placed(self, task: Task) -> Task:
        return Task(*(Clips(*self.joint.compute.move(*half)) for half in task))
