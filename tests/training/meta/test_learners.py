"""Meta-gradients match finite differences, hand-written inner steps in PyTorch, and `higher`."""

import copy
from collections.abc import Mapping

import pytest
import torch
from torch.nn import functional as F

from metavox.errors import UserError
from metavox.recognisers.conformer.network import Network
from metavox.training.meta import (
    HEAD,
    Anil,
    Clips,
    Maml,
    MetaSgd,
    Problem,
    ProtoNet,
    Reptile,
    Task,
    Utterances,
    Words,
    learner,
    meta_gradient,
)
from metavox.training.meta.problem import LOGIT_SCALE, REJECTION_COSINE

Weights = dict[str, torch.Tensor]
SECOND_ORDER = ["protonet", "maml", "anil", "metasgd"]


def weights_of(model: Network) -> Weights:
    return {name: value.detach() for name, value in model.named_parameters()}


def class_means(model: Network, clips: Clips) -> torch.Tensor:
    embedded = model.embed(clips.mels, clips.lengths)
    return F.normalize(torch.stack([embedded[clips.targets[:, c] == 1].sum(0) for c in range(3)]), dim=1)


def loss_of(model: Network, head: torch.Tensor, clips: Clips) -> torch.Tensor:
    known = clips.targets.sum(1) == 1
    logits = LOGIT_SCALE * model.embed(clips.mels, clips.lengths)[known] @ head.T
    return F.cross_entropy(logits, clips.targets[known].argmax(1))


def adapted_by_hand(
    model: Network, clips: Clips, steps: int, rate: float, start: torch.Tensor
) -> tuple[Network, torch.Tensor]:
    """A clone and a head after `steps` of plain gradient descent."""
    clone, head = copy.deepcopy(model), start.detach().clone().requires_grad_(True)
    for _ in range(steps):
        clone.zero_grad(set_to_none=True)
        head.grad = None
        loss_of(clone, head, clips).backward()
        with torch.no_grad():
            for value in [*clone.parameters(), head]:
                if value.grad is not None:
                    value -= rate * value.grad
    return clone, head


def known_only(task: Task) -> Task:
    return Task(task.support, Clips(*(part[:3] for part in task.query)))


def problem_of(name: str, model: Network) -> Problem:
    if name == "utterances":
        return Utterances(model)
    return Words(
        model, reject=name == "rejecting", statistics="batch" if name == "transductive" else "running"
    )


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("name", SECOND_ORDER)
@pytest.mark.parametrize("kind", ["words", "rejecting", "transductive", "utterances"])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_the_gradient_matches_finite_differences(
    model: Network,
    word_tasks: list[Task],
    utterance_tasks: list[Task],
    kind: str,
    name: str,
    vectorised: bool,
) -> None:
    if (kind, name) == ("utterances", "protonet"):
        pytest.skip("utterances have no classes")
    tasks = (utterance_tasks if kind == "utterances" else word_tasks)[:2]
    meta_learner = learner(name, problem_of(kind, model), 2, 0.005)  # type: ignore[arg-type]
    weights = weights_of(model) | meta_learner.meta_parameters()
    result = meta_gradient(meta_learner, weights, tasks, vectorised)
    random = torch.Generator().manual_seed(0)
    direction = {n: torch.randn(w.shape, generator=random, dtype=w.dtype) for n, w in weights.items()}

    def loss(size: float) -> float:
        shifted = {n: w + size * direction[n] for n, w in weights.items()}
        return sum(float(meta_learner(shifted, task).loss) for task in tasks) / len(tasks)

    assert result.loss == pytest.approx(loss(0))
    # The step is so small that it crosses the kink of no ReLU.
    quotient = (loss(1e-9) - loss(-1e-9)) / 2e-9
    assert sum(float((result.gradients[n] * direction[n]).sum()) for n in result.gradients) == pytest.approx(
        quotient, rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("name", ["protonet", "fomaml", "maml", "reptile", "anil", "metasgd"])
def test_a_loop_and_vectorised_tasks_give_the_same_gradient(
    model: Network, word_tasks: list[Task], name: str
) -> None:
    meta_learner = learner(name, Words(model, reject=True), 2, 0.05)  # type: ignore[arg-type]
    weights = weights_of(model) | meta_learner.meta_parameters()
    looped, stacked = (
        meta_gradient(meta_learner, weights, word_tasks, vectorised) for vectorised in (False, True)
    )
    torch.testing.assert_close(dict(stacked.gradients), dict(looped.gradients))
    torch.testing.assert_close((stacked.loss, stacked.score), (looped.loss, looped.score))


@pytest.mark.parametrize(("steps", "rate"), [(0, 0.05), (1, 0.05), (3, 0.05)])
def test_first_order_is_the_query_gradient_at_weights_adapted_by_hand(
    model: Network, word_tasks: list[Task], steps: int, rate: float
) -> None:
    task = known_only(word_tasks[0])
    result = Maml(Words(model), steps, rate, first_order=True).gradient(weights_of(model), task)
    start = class_means(model, task.support)
    clone, head = adapted_by_hand(model, task.support, steps, rate, start)
    clone.zero_grad(set_to_none=True)
    head.grad = None
    query = loss_of(clone, head, task.query)
    query.backward()
    assert head.grad is not None
    # The initial head is the class means under the initial weights, so its gradient reaches those too.
    (start * head.grad).sum().backward()
    torch.testing.assert_close(result.loss, query.detach())
    for (name, initial), adapted in zip(model.named_parameters(), clone.parameters(), strict=True):
        gradients = [value.grad for value in (initial, adapted) if value.grad is not None]
        assert (name in result.gradients) == bool(gradients)
        if gradients:
            torch.testing.assert_close(result.gradients[name], torch.stack(gradients).sum(0))


class Classifier(torch.nn.Module):
    """The network and its head as one module, which is what `higher` patches."""

    def __init__(self, model: Network):
        super().__init__()
        self.model = model
        self.head = torch.nn.Parameter(torch.zeros(3, model.config.embedding).double())

    def forward(self, clips: Clips) -> torch.Tensor:
        return loss_of(self.model, self.head, clips)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_second_order_matches_higher(model: Network, word_tasks: list[Task]) -> None:
    higher = pytest.importorskip("higher")
    task = known_only(word_tasks[0])
    result = Maml(Words(model), 2, 0.05).gradient(weights_of(model), task)

    net = Classifier(model).eval()
    sgd = torch.optim.SGD(net.parameters(), 0.05)
    with higher.innerloop_ctx(net, sgd) as (inner, step):
        first = list(inner.parameters())
        head_index = [name for name, _ in inner.named_parameters()].index(HEAD)
        means = class_means(inner.model, task.support)
        # Clones, so that an inner step does not differentiate through the means.
        inner.update_params([means if i == head_index else value.clone() for i, value in enumerate(first)])
        for _ in range(2):
            step.step(inner(task.support))
        query = inner(task.query)
        gradients = torch.autograd.grad(query, first, allow_unused=True)
    names = [name.removeprefix("model.") for name, _ in net.named_parameters()]
    expected = {
        n: s for n, s in zip(names, gradients, strict=True) if s is not None and n in result.gradients
    }
    torch.testing.assert_close(result.loss, query.detach())
    assert len(expected) == len(result.gradients)
    torch.testing.assert_close(dict(result.gradients), expected)


def test_reptile_points_away_from_the_weights_adapted_to_support_and_queries(
    model: Network, word_tasks: list[Task]
) -> None:
    task = known_only(word_tasks[0])
    result = Reptile(Words(model), 2, 0.05).gradient(weights_of(model), task)
    adapted, head = adapted_by_hand(model, task.support, 2, 0.05, class_means(model, task.support))
    # The loss is measured before learning from the queries, so that it remains a test.
    torch.testing.assert_close(result.loss, loss_of(adapted, head, task.query).detach())
    after, _ = adapted_by_hand(adapted, task.query, 2, 0.05, head)
    for (name, initial), (_, final) in zip(model.named_parameters(), after.named_parameters(), strict=True):
        if name in result.gradients:
            torch.testing.assert_close(result.gradients[name], ((initial - final) / 0.2).detach())


def test_anil_adapts_only_the_head(
    model: Network, word_tasks: list[Task], utterance_tasks: list[Task]
) -> None:
    for problem, task in ((Words(model), word_tasks[0]), (Utterances(model), utterance_tasks[0])):
        weights = weights_of(model)
        adapted = Anil(problem, 5, 0.02).adapt(weights, task.support)
        assert {n for n in adapted if not torch.equal(adapted[n], weights.get(n, torch.zeros(0)))} == set(
            problem.head
        )
        start = ProtoNet(problem).adapt(weights, task.support) if isinstance(problem, Words) else weights
        assert problem.loss(adapted, task.support)[0] < problem.loss(start, task.support)[0]


def test_meta_sgd_starts_as_maml_and_uses_its_rates(model: Network, word_tasks: list[Task]) -> None:
    words, weights, task = Words(model), weights_of(model), word_tasks[0]
    maml = Maml(words, 1, 0.05).adapt(weights, task.support)
    for per in ("tensor", "weight"):
        sgd = MetaSgd(words, 1, 0.05, per=per)  # type: ignore[arg-type]
        rates = sgd.meta_parameters()
        adapted = sgd.adapt(weights | rates, task.support)
        torch.testing.assert_close({n: adapted[n] for n in maml}, dict(maml))
        name = "word.project.weight"
        faster = sgd.adapt(weights | rates | {f"rate.{name}": rates[f"rate.{name}"] + 1}, task.support)
        torch.testing.assert_close(faster[name] - weights[name], (maml[name] - weights[name]) * torch.e)


@pytest.mark.parametrize("name", ["fomaml", "maml", "reptile", "metasgd"])
def test_inner_steps_lower_the_support_loss(
    model: Network, word_tasks: list[Task], utterance_tasks: list[Task], name: str
) -> None:
    for problem, task in ((Words(model), word_tasks[0]), (Utterances(model), utterance_tasks[0])):
        losses = []
        for steps in (1, 4):
            meta_learner = learner(name, problem, steps, 0.001)  # type: ignore[arg-type]
            adapted = meta_learner.adapt(weights_of(model) | meta_learner.meta_parameters(), task.support)
            losses.append(float(problem.loss(adapted, task.support)[0]))
        assert losses[1] < losses[0]


@pytest.mark.parametrize("training", [False, True])
def test_running_statistics_are_read_and_never_written(
    model: Network, word_tasks: list[Task], training: bool
) -> None:
    task = word_tasks[0]
    with torch.no_grad():
        expected = model.embed(task.query.mels, task.query.lengths)
        in_batch = copy.deepcopy(model).train().embed(task.query.mels, task.query.lengths)
    model.train(training)
    before = copy.deepcopy(model.state_dict())
    for statistics, values in (("running", expected), ("batch", in_batch)):
        words = Words(model, statistics=statistics)  # type: ignore[arg-type]
        torch.testing.assert_close(words.features(weights_of(model), task.query)[0], values)
        meta_gradient(Maml(words), weights_of(model), word_tasks, vectorised=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model.word.centre.running_mean += 0.1  # type: ignore[operator]
        model.eval()
        shifted = model.embed(task.query.mels, task.query.lengths)
    torch.testing.assert_close(Words(model).features(weights_of(model), task.query)[0], shifted)


def test_an_unknown_word_is_rejected_if_all_cosines_are_low(model: Network) -> None:
    features = torch.eye(24)[:3].double()
    weights: Mapping[str, torch.Tensor] = {HEAD: torch.eye(24)[:2].double()}
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    loss, score = Words(model, reject=True).head_loss(
        weights, features, torch.ones(3), Clips(features, torch.ones(3), targets)
    )
    logits = (
        LOGIT_SCALE
        * torch.tensor(
            [[1, 0, REJECTION_COSINE], [0, 1, REJECTION_COSINE], [0, 0, REJECTION_COSINE]]
        ).double()
    )
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.tensor([0, 1, 2])))
    assert score == 1


def test_first_order_leaves_no_graph_through_the_steps(model: Network, utterance_tasks: list[Task]) -> None:
    weights = {n: w.requires_grad_() for n, w in weights_of(model).items()}
    utterances = Utterances(model)
    adapted = Maml(utterances, 2, 0.05, first_order=True).adapt(weights, utterance_tasks[0].support)
    (gradient,) = torch.autograd.grad(adapted["ctc.bias"].sum(), weights["ctc.bias"])
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_protonet_refuses_utterances(model: Network) -> None:
    with pytest.raises(UserError, match="no classes"):
        learner("protonet", Utterances(model), 1, 0.1)
