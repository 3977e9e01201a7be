"""Meta-training tasks a second beside `higher` and `torchopt`: `python benchmarks/meta.py [--device cuda]`.

One network (the package's default), the same word episodes, and the same algorithm: a head that begins as the class
means, plain gradient steps on the support set, the gradient of the queries' loss with respect to the start. All arms take
turns, round after round; a figure is the median over rounds, of the CPU time of this process (wall time on a GPU).
Before the clock runs, each arm's meta-gradient is checked against ours.

ANIL's inner loop needs the head alone: `again` runs the network anew in each step, as calling the model in the loop
does; `cached` is the library with the features computed once by hand. torchopt has no first order.
"""

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from functools import partial

import higher
import numpy as np
import torch
import torchopt
from torch import nn
from torch.nn import functional as F

from metavox.recognisers.conformer import ModelConfig, Network
from metavox.training.meta import Clips, Task, Words, learner, meta_gradient
from metavox.training.meta.problem import LOGIT_SCALE

RATE = 0.01


class Head(nn.Module):
    def __init__(self, way: int, embedding: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(way, embedding))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return LOGIT_SCALE * embeddings @ self.weight.T


class Classifier(nn.Module):
    """Clips to logits: what the libraries patch."""

    def __init__(self, model: Network, way: int):
        super().__init__()
        self.head, self.model = Head(way, model.config.embedding), model

    def embed(self, clips: Clips) -> torch.Tensor:
        return self.model.embed(clips.mels, clips.lengths)

    def forward(self, clips: Clips) -> torch.Tensor:
        return self.head(self.embed(clips))


def loss_of(logits: torch.Tensor, clips: Clips) -> torch.Tensor:
    return F.cross_entropy(logits, clips.targets)


def means_of(embeddings: torch.Tensor, clips: Clips) -> torch.Tensor:
    return F.normalize(clips.targets.T @ embeddings, dim=1)


def maml_higher(net: Classifier, task: Task, steps: int) -> None:
    with higher.innerloop_ctx(net, torch.optim.SGD(net.parameters(), RATE), copy_initial_weights=False) as (
        inner,
        step,
    ):
        # Clones: a step must not see that the means came from the same weights. The head is the first of them.
        begun = [value.clone() for value in inner.parameters()]
        inner.update_params([means_of(inner.embed(task.support), task.support), *begun[1:]])
        for _ in range(steps):
            step.step(loss_of(inner(task.support), task.support))
        loss_of(inner(task.query), task.query).backward()


def fomaml_higher(net: Classifier, task: Task, steps: int) -> None:
    means = means_of(net.embed(task.support), task.support)
    with higher.innerloop_ctx(net, torch.optim.SGD(net.parameters(), RATE), track_higher_grads=False) as (
        inner,
        step,
    ):
        inner.update_params([means.detach().requires_grad_(), *list(inner.parameters())[1:]])
        for _ in range(steps):
            step.step(loss_of(inner(task.support), task.support))
        after = list(inner.parameters())
        gradients = torch.autograd.grad(loss_of(inner(task.query), task.query), after, allow_unused=True)
    (means * gradients[0]).sum().backward()
    for value, gradient in zip(list(net.parameters())[1:], gradients[1:], strict=True):
        if gradient is not None:
            value.grad = gradient if value.grad is None else value.grad + gradient


def maml_torchopt(net: Classifier, task: Task, steps: int) -> None:
    begun = torchopt.extract_state_dict(net, by="reference", detach_buffers=True)
    means = means_of(net.embed(task.support), task.support)
    for part in net.modules():
        part._parameters.update({n: v.clone() for n, v in part._parameters.items() if v is not None})
    net.head._parameters["weight"] = means
    inner = torchopt.MetaSGD(net, RATE)
    for _ in range(steps):
        inner.step(loss_of(net(task.support), task.support))
    loss_of(net(task.query), task.query).backward()
    torchopt.recover_state_dict(net, begun)


def anil_higher(cached: bool, net: Classifier, task: Task, steps: int) -> None:
    features = net.embed(task.support)
    sgd = torch.optim.SGD(net.head.parameters(), RATE)
    with higher.innerloop_ctx(net.head, sgd, copy_initial_weights=False) as (inner, step):
        inner.update_params([means_of(features, task.support)])
        for _ in range(steps):
            step.step(loss_of(inner(features if cached else net.embed(task.support)), task.support))
        loss_of(inner(net.embed(task.query)), task.query).backward()


def anil_torchopt(cached: bool, net: Classifier, task: Task, steps: int) -> None:
    features, begun = net.embed(task.support), net.head.weight
    net.head._parameters["weight"] = means_of(features, task.support)
    inner = torchopt.MetaSGD(net.head, RATE)
    for _ in range(steps):
        inner.step(loss_of(net.head(features if cached else net.embed(task.support)), task.support))
    loss_of(net.head(net.embed(task.query)), task.query).backward()
    net.head._parameters["weight"] = begun


LIBRARIES = {
    "fomaml": {"higher": fomaml_higher},
    "maml": {"higher": maml_higher, "torchopt": maml_torchopt},
    "anil": {
        "higher, cached": partial(anil_higher, True),
        "torchopt, cached": partial(anil_torchopt, True),
        "higher, again": partial(anil_higher, False),
        "torchopt, again": partial(anil_torchopt, False),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", default=9, type=int)
    parser.add_argument("--tasks", default=4, type=int, help="of a meta-step")
    parser.add_argument("--shape", default=(5, 2, 2), nargs=3, type=int, metavar=("WAY", "SHOT", "QUERIES"))
    parser.add_argument("--frames", default=60, type=int, help="of a clip")
    parser.add_argument("--steps", default=(2, 5), nargs=2, type=int, help="inner steps of MAML, and of ANIL")
    parser.add_argument(
        "--methods", default=["protonet", "fomaml", "reptile", "anil", "maml", "metasgd"], nargs="+"
    )
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    torch.manual_seed(0)
    model = Network(ModelConfig()).eval().to(device)
    way, shot, queries = chosen.shape
    tasks = [
        Task(half(way, shot, chosen.frames, device), half(way, queries, chosen.frames, device))
        for _ in range(chosen.tasks)
    ]
    print(
        f"{way} words, {shot} + {queries} clips of {chosen.frames} frames each, {chosen.tasks} tasks a meta-step, {device}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {chosen.rounds} rounds"
    )
    print("| method | arm | tasks a second | ours is so many times as fast |\n|---|---|---|---|")
    for name in chosen.methods:
        steps = chosen.steps[1] if name == "anil" else chosen.steps[0]
        compare(name, model, tasks, steps, chosen.rounds)


def compare(name: str, model: Network, tasks: list[Task], steps: int, rounds: int) -> None:
    """Prints a line for each arm of one method."""
    how = learner(name, Words(model), steps, RATE)
    weights = {n: value.detach() for n, value in model.named_parameters()} | how.meta_parameters()
    net = Classifier(model, tasks[0].support.targets.shape[1]).eval().to(tasks[0].support.mels.device)
    arms: dict[str, Callable[[], object]] = {
        f"ours, {'stack' if stacked else 'loop'}": partial(meta_gradient, how, weights, tasks, stacked)
        for stacked in (False, True)
    }
    for library, one in LIBRARIES.get(name, {}).items():
        arms[library] = partial(one_by_one, one, net, tasks, steps)
        check(library, one, name, model, tasks[0], steps)
    took: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(rounds):
        for arm, run in arms.items():
            took[arm].append(timed(run, tasks[0].support.mels.device))
    best = min(np.median(took[arm]) for arm in arms if arm.startswith("ours"))
    for arm, seconds in took.items():
        print(
            f"| {name} | {arm} | {len(tasks) / np.median(seconds):.1f} | {np.median(seconds) / best:.2f} |",
            flush=True,
        )


def one_by_one(
    one: Callable[[Classifier, Task, int], None], net: Classifier, tasks: list[Task], steps: int
) -> None:
    net.zero_grad(set_to_none=True)
    for task in tasks:
        one(net, task, steps)


def check(
    library: str,
    one: Callable[[Classifier, Task, int], None],
    name: str,
    model: Network,
    task: Task,
    steps: int,
) -> None:
    """In double precision: rounding sends some units of a rectifier to the other side of its bend."""
    exact = copy.deepcopy(model).double()
    task = Task(*(Clips(half.mels.double(), half.lengths, half.targets.double()) for half in task))
    net = Classifier(exact, task.support.targets.shape[1]).eval().double().to(task.support.mels.device)
    one(net, task, steps)
    how = learner(name, Words(exact), steps, RATE)
    ours = how.gradient({n: value.detach() for n, value in exact.named_parameters()}, task).gradients
    for n, value in net.model.named_parameters():
        if n in ours and not torch.allclose(value.grad, ours[n], rtol=1e-6, atol=1e-9):
            raise SystemExit(f"{library}: its gradient of {n} is not ours")


def timed(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def half(way: int, clips: int, frames: int, device: torch.device) -> Clips:
    labels = torch.arange(way).repeat_interleave(clips)
    mels = torch.randn(len(labels), frames, 64) - 6
    lengths = torch.randint(frames // 2, frames + 1, (len(labels),))
    return Clips(*(part.to(device) for part in (mels, lengths, F.one_hot(labels, way).float())))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
