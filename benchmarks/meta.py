"""Compare the speed of metavox's meta-learners with `higher` and `torchopt`, in tasks per second.

    python benchmarks/meta.py [--device cuda]

All arms have the same network (the package's default), the same word episodes and the same algorithm: a head that starts
as the class means, plain gradient steps on the support set, and the gradient of the query loss with respect to the
initial weights. Before the measurement, each library's meta-gradient is checked against metavox's.

Columns:

    arm               the implementation; metavox runs the tasks of a meta-step in a loop or in one `vmap`
    tasks per second  median over alternating rounds, of this process's CPU time (of wall time on a GPU)
    relative time     time per task, relative to metavox's faster arm

ANIL's inner loop needs only the head. With `cached`, features are computed once by hand; with `recomputed`, the network
runs again in each step, as it does when the loop calls the model. torchopt has no first-order MAML.
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

LEARNING_RATE = 0.01


class Head(nn.Module):
    def __init__(self, way: int, embedding: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(way, embedding))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return LOGIT_SCALE * embeddings @ self.weight.T


class Classifier(nn.Module):
    """Clips to logits: the module that the libraries patch."""

    def __init__(self, model: Network, way: int):
        super().__init__()
        self.head, self.model = Head(way, model.config.embedding), model

    def embed(self, clips: Clips) -> torch.Tensor:
        return self.model.embed(clips.mels, clips.lengths)

    def forward(self, clips: Clips) -> torch.Tensor:
        return self.head(self.embed(clips))


def loss_of(logits: torch.Tensor, clips: Clips) -> torch.Tensor:
    return F.cross_entropy(logits, clips.targets)


def class_means(embeddings: torch.Tensor, clips: Clips) -> torch.Tensor:
    return F.normalize(clips.targets.T @ embeddings, dim=1)


def maml_higher(net: Classifier, task: Task, steps: int) -> None:
    sgd = torch.optim.SGD(net.parameters(), LEARNING_RATE)
    with higher.innerloop_ctx(net, sgd, copy_initial_weights=False) as (inner, step):
        # Clones, so that the inner gradient does not reach the weights through the class means. The head comes first.
        initial = [parameter.clone() for parameter in inner.parameters()]
        inner.update_params([class_means(inner.embed(task.support), task.support), *initial[1:]])
        for _ in range(steps):
            step.step(loss_of(inner(task.support), task.support))
        loss_of(inner(task.query), task.query).backward()


def fomaml_higher(net: Classifier, task: Task, steps: int) -> None:
    means = class_means(net.embed(task.support), task.support)
    sgd = torch.optim.SGD(net.parameters(), LEARNING_RATE)
    with higher.innerloop_ctx(net, sgd, track_higher_grads=False) as (inner, step):
        inner.update_params([means.detach().requires_grad_(), *list(inner.parameters())[1:]])
        for _ in range(steps):
            step.step(loss_of(inner(task.support), task.support))
        adapted = list(inner.parameters())
        gradients = torch.autograd.grad(loss_of(inner(task.query), task.query), adapted, allow_unused=True)
    (means * gradients[0]).sum().backward()
    for parameter, gradient in zip(list(net.parameters())[1:], gradients[1:], strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def maml_torchopt(net: Classifier, task: Task, steps: int) -> None:
    initial = torchopt.extract_state_dict(net, by="reference", detach_buffers=True)
    means = class_means(net.embed(task.support), task.support)
    for module in net.modules():
        module._parameters.update({n: p.clone() for n, p in module._parameters.items() if p is not None})
    net.head._parameters["weight"] = means
    inner = torchopt.MetaSGD(net, LEARNING_RATE)
    for _ in range(steps):
        inner.step(loss_of(net(task.support), task.support))
    loss_of(net(task.query), task.query).backward()
    torchopt.recover_state_dict(net, initial)


def anil_higher(cached: bool, net: Classifier, task: Task, steps: int) -> None:
    features = net.embed(task.support)
    sgd = torch.optim.SGD(net.head.parameters(), LEARNING_RATE)
    with higher.innerloop_ctx(net.head, sgd, copy_initial_weights=False) as (inner, step):
        inner.update_params([class_means(features, task.support)])
        for _ in range(steps):
            step.step(loss_of(inner(features if cached else net.embed(task.support)), task.support))
        loss_of(inner(net.embed(task.query)), task.query).backward()


def anil_torchopt(cached: bool, net: Classifier, task: Task, steps: int) -> None:
    features, initial = net.embed(task.support), net.head.weight
    net.head._parameters["weight"] = class_means(features, task.support)
    inner = torchopt.MetaSGD(net.head, LEARNING_RATE)
    for _ in range(steps):
        inner.step(loss_of(net.head(features if cached else net.embed(task.support)), task.support))
    loss_of(net.head(net.embed(task.query)), task.query).backward()
    net.head._parameters["weight"] = initial


Implementation = Callable[[Classifier, Task, int], None]
"""Adds the meta-gradient of a task, after a number of inner steps, to the `grad` of the classifier's parameters."""

LIBRARIES: dict[str, dict[str, Implementation]] = {
    "fomaml": {"higher": fomaml_higher},
    "maml": {"higher": maml_higher, "torchopt": maml_torchopt},
    "anil": {
        "higher, cached": partial(anil_higher, True),
        "torchopt, cached": partial(anil_torchopt, True),
        "higher, recomputed": partial(anil_higher, False),
        "torchopt, recomputed": partial(anil_torchopt, False),
    },
}


def main() -> None:
    args = argument_parser().parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    model = Network(ModelConfig()).eval().to(device)
    way, shot, queries = args.shape
    tasks = [
        Task(
            random_clips(way, shot, args.frames, device),
            random_clips(way, queries, args.frames, device),
        )
        for _ in range(args.tasks)
    ]
    print(
        f"{way} words, {shot} + {queries} clips of {args.frames} frames each, {args.tasks} tasks per meta-step, {device}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.rounds} rounds"
    )
    print("| method | arm | tasks per second | relative time |\n|---|---|---|---|")
    for name in args.methods:
        compare(name, model, tasks, args.steps[1] if name == "anil" else args.steps[0], args.rounds)


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", default=9, type=int)
    parser.add_argument("--tasks", default=4, type=int, help="per meta-step")
    parser.add_argument("--shape", default=(5, 2, 2), nargs=3, type=int, metavar=("WAY", "SHOT", "QUERIES"))
    parser.add_argument("--frames", default=60, type=int, help="per clip")
    parser.add_argument("--steps", default=(2, 5), nargs=2, type=int, help="inner steps of MAML, and of ANIL")
    parser.add_argument(
        "--methods", default=["protonet", "fomaml", "reptile", "anil", "maml", "metasgd"], nargs="+"
    )
    return parser


def compare(name: str, model: Network, tasks: list[Task], steps: int, rounds: int) -> None:
    """Print a line for each arm of one method."""
    meta_learner = learner(name, Words(model), steps, LEARNING_RATE)
    weights = {n: p.detach() for n, p in model.named_parameters()} | meta_learner.meta_parameters()
    device = tasks[0].support.mels.device
    net = Classifier(model, tasks[0].support.targets.shape[1]).eval().to(device)
    ours: dict[str, Callable[[], object]] = {
        "metavox, loop": partial(meta_gradient, meta_learner, weights, tasks, False),
        "metavox, vmap": partial(meta_gradient, meta_learner, weights, tasks, True),
    }
    arms = dict(ours)
    for library, implementation in LIBRARIES.get(name, {}).items():
        arms[library] = partial(run_tasks, implementation, net, tasks, steps)
        check_gradient(library, implementation, name, model, tasks[0], steps)
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(rounds):
        for arm, run in arms.items():
            times[arm].append(timed(run, device))
    median = {arm: float(np.median(seconds)) for arm, seconds in times.items()}
    fastest = min(median[arm] for arm in ours)
    for arm, seconds in median.items():
        print(f"| {name} | {arm} | {len(tasks) / seconds:.1f} | {seconds / fastest:.2f} |", flush=True)


def run_tasks(implementation: Implementation, net: Classifier, tasks: list[Task], steps: int) -> None:
    net.zero_grad(set_to_none=True)
    for task in tasks:
        implementation(net, task, steps)


def check_gradient(
    library: str, implementation: Implementation, name: str, model: Network, task: Task, steps: int
) -> None:
    """Exit if a library's meta-gradient differs from metavox's.

    The check needs double precision: in single precision, rounding moves some units across the kink of their rectifier.
    """
    exact = copy.deepcopy(model).double()
    task = Task(*(Clips(clips.mels.double(), clips.lengths, clips.targets.double()) for clips in task))
    net = Classifier(exact, task.support.targets.shape[1]).eval().double().to(task.support.mels.device)
    implementation(net, task, steps)
    meta_learner = learner(name, Words(exact), steps, LEARNING_RATE)
    expected = meta_learner.gradient({n: p.detach() for n, p in exact.named_parameters()}, task).gradients
    for n, parameter in net.model.named_parameters():
        if n in expected and not torch.allclose(parameter.grad, expected[n], rtol=1e-6, atol=1e-9):
            raise SystemExit(f"{library}: its gradient of {n} differs from metavox's")


def timed(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def random_clips(way: int, clips: int, frames: int, device: torch.device) -> Clips:
    labels = torch.arange(way).repeat_interleave(clips)
    mels = torch.randn(len(labels), frames, 64) - 6
    lengths = torch.randint(frames // 2, frames + 1, (len(labels),))
    targets = F.one_hot(labels, way).float()
    return Clips(mels.to(device), lengths.to(device), targets.to(device))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
