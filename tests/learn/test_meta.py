"""Meta-gradients against plain PyTorch that steps a clone by hand, and against finite differences."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metavox.audio.perturb import Perturb
from metavox.corpus.episodes import EpisodeShape
from metavox.corpus.store import Store
from metavox.learn.joint import JointTask, labelled
from metavox.learn.meta import HEAD, SCALE, Fomaml, Learner, MetaTask, ProtoNet, Reptile, Task, learner
from metavox.model.recogniser import Recogniser

Half = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture
def model(make_model: Callable[..., Recogniser]) -> Recogniser:
    return make_model().double()


@pytest.fixture
def task() -> Task:
    random = torch.Generator().manual_seed(3)
    looks = torch.randn(3, 30, 16, generator=random, dtype=torch.float64)

    def half(clips: int, lengths: list[int]) -> Half:
        labels = torch.arange(3).repeat_interleave(clips)
        noise = torch.randn(3 * clips, 30, 16, generator=random, dtype=torch.float64)
        return 2 * looks[labels] + noise - 6, torch.tensor(lengths), labels

    return Task(half(2, [30, 28, 25, 30, 20, 30]), half(1, [30, 24, 27]), 3)


def weights_of(model: Recogniser) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def class_means(model: Recogniser, half: Half) -> torch.Tensor:
    embedded = model.embed(half[0], half[1])
    return F.normalize(torch.stack([embedded[half[2] == c].sum(0) for c in range(3)]), dim=1)


def loss_of(model: Recogniser, head: torch.Tensor, half: Half) -> torch.Tensor:
    return F.cross_entropy(SCALE * model.embed(half[0], half[1]) @ head.T, half[2])


def by_hand(
    model: Recogniser, half: Half, steps: int, rate: float, start: torch.Tensor
) -> tuple[Recogniser, torch.Tensor]:
    """A clone after `steps` of plain gradient descent on weights and head."""
    clone, head = copy.deepcopy(model), start.detach().clone().requires_grad_(True)
    for _ in range(steps):
        clone.zero_grad(set_to_none=True)
        head.grad = None
        loss_of(clone, head, half).backward()
        with torch.no_grad():
            for value in [*clone.parameters(), head]:
                if value.grad is not None:
                    value -= rate * value.grad
    return clone, head


def slopes(loss: torch.Tensor, model: Recogniser) -> dict[str, torch.Tensor]:
    names = weights_of(model)
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    return {
        n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(names.items(), found, strict=True)
    }


@pytest.mark.parametrize(("steps", "rate"), [(0, 0.05), (1, 1e-8), (1, 0.05), (3, 0.05)])
def test_fomaml_is_the_query_slope_at_weights_adapted_by_hand(
    model: Recogniser, task: Task, steps: int, rate: float
) -> None:
    outcome = Fomaml(steps, rate)(model, weights_of(model), task)
    ours = slopes(outcome.loss, model)

    start = class_means(model, task.support)
    clone, head = by_hand(model, task.support, steps, rate, start)
    clone.zero_grad(set_to_none=True)
    head.grad = None
    query = loss_of(clone, head, task.query)
    query.backward()
    assert head.grad is not None
    # The head began as the class means of the start's weights, so its slope reaches those too.
    through_head = slopes((start * head.grad).sum(), model)
    at_adapted = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in clone.named_parameters()}
    torch.testing.assert_close(outcome.loss, query)
    for name, slope in ours.items():
        torch.testing.assert_close(slope, at_adapted[name] + through_head[name])
    assert ours["encoder.frontend.normalise.scale"].norm() > 0


def test_fomaml_without_a_step_is_protonet(model: Recogniser, task: Task) -> None:
    a = slopes(Fomaml(0)(model, weights_of(model), task).loss, model)
    b = slopes(ProtoNet()(model, weights_of(model), task).loss, model)
    tiny = slopes(Fomaml(1, 1e-9)(model, weights_of(model), task).loss, model)
    for name in a:
        torch.testing.assert_close(a[name], b[name])
        torch.testing.assert_close(tiny[name], b[name], atol=1e-5, rtol=1e-4)


def test_protonet_slope_is_the_difference_quotient(model: Recogniser, task: Task) -> None:
    weights = weights_of(model)
    slope = slopes(ProtoNet()(model, weights, task).loss, model)
    random = torch.Generator().manual_seed(0)
    for _ in range(4):
        way = {n: torch.randn(w.shape, generator=random, dtype=w.dtype) for n, w in weights.items()}
        size = 1e-6
        with torch.no_grad():
            up, down = (
                ProtoNet()(model, {n: w + s * way[n] for n, w in weights.items()}, task).loss
                for s in (size, -size)
            )
        expected = sum(float((slope[n] * way[n]).sum()) for n in weights)
        assert float(up - down) / (2 * size) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_reptile_points_from_the_weights_that_the_whole_task_leads_to(
    model: Recogniser, task: Task, steps: int
) -> None:
    outcome = Reptile(steps, 0.05)(model, weights_of(model), task)
    assert outcome.gradients is not None
    whole: Half = (
        torch.cat([task.support[0], task.query[0]]),
        torch.cat([task.support[1], task.query[1]]),
        torch.cat([task.support[2], task.query[2]]),
    )
    clone, _ = by_hand(model, whole, steps, 0.05, class_means(model, whole))
    after = dict(clone.named_parameters())
    for name, value in weights_of(model).items():
        torch.testing.assert_close(outcome.gradients[name], (value - after[name]) / (steps * 0.05))
    # Its figures come from the support alone, so that the queries stay a test.
    judged, head = by_hand(model, task.support, steps, 0.05, class_means(model, task.support))
    torch.testing.assert_close(outcome.loss, loss_of(judged, head, task.query).detach())


@pytest.mark.parametrize("how", [Fomaml(3, 0.001), Reptile(3, 0.001)])
def test_inner_steps_lower_the_support_loss_and_leave_the_model_alone(
    model: Recogniser, task: Task, how: Learner
) -> None:
    before = {n: v.detach().clone() for n, v in model.state_dict().items()}
    adapted = how.adapt(model, weights_of(model), task)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    clone = copy.deepcopy(model)
    with torch.no_grad():
        start = loss_of(model, class_means(model, task.support), task.support)
        clone.load_state_dict({n: adapted.get(n, v) for n, v in clone.state_dict().items()})
        assert loss_of(clone, adapted[HEAD], task.support) < start
    assert torch.equal(adapted["ctc.weight"], model.ctc.weight)


def test_learners_by_name() -> None:
    assert learner("protonet", 3, 0.1) == ProtoNet()
    assert learner("fomaml", 3, 0.1) == Fomaml(3, 0.1)
    assert learner("reptile", 3, 0.1) == Reptile(3, 0.1)


@pytest.mark.parametrize(
    "how", [ProtoNet(), Fomaml(1, 0.02), Reptile(1, 0.02)], ids=lambda how: type(how).__name__
)
def test_meta_training_on_episodes_lowers_the_loss(
    make_store: Callable[..., Store], make_model: Callable[..., Recogniser], unchanged: Perturb, how: Learner
) -> None:
    model, store = make_model(), make_store()

    joint = JointTask(model, labelled(store, model.tokenizer), 1000, 0.4, 0, unchanged)
    task = MetaTask(joint, how, EpisodeShape(3, 2, 2), seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    total = []
    for step in range(20):
        loss, record = task(step, torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if step == 0 and isinstance(how, Reptile):
            assert model.word.project.weight.grad is not None
            assert model.word.project.weight.grad.norm() > 0
        optimizer.step()
        assert np.isfinite(list(record.values())).all()
        total.append(record["loss"] + record["ctc"])
    assert np.mean(total[-4:]) < np.mean(total[:4])
    assert task.clips_a_step == 3 * (2 * (1 + getattr(how, "steps", 0)) + 2)
