"""Task sampling, rooms and reversed words, and meta-training that lowers the loss."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from metavox.audio.perturb import LOG_FLOOR, Perturb, Perturbation
from metavox.config import FeatureConfig
from metavox.dataset.episodes import EpisodeShape
from metavox.dataset.store import Store
from metavox.dataset.utterance_tasks import UtteranceShape
from metavox.errors import UserError
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.conformer.tokenizer import Tokenizer
from metavox.training.gan import Environment, Environments, GeneratorConfig
from metavox.training.joint import JointTask, labelled
from metavox.training.meta import Curriculum, MetaTask, Utterances, UtteranceTasks, Words, WordTasks, learner
from metavox.training.meta.augment import SharedRoom, reverse_clips
from metavox.training.meta.metasgd import load_rates, relative_rates, save_rates

TOKENIZER = Tokenizer(" 'abcdefghijklmnopqrstuvwxyz")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["protonet", "fomaml", "maml", "reptile", "anil", "metasgd"])
@pytest.mark.parametrize("kind", ["words", "utterances"])
def test_meta_training_lowers_the_loss(
    make_store: Callable[..., Store],
    make_model: Callable[..., Network],
    unchanged: Perturb,
    name: str,
    kind: str,
) -> None:
    if (kind, name) == ("utterances", "protonet"):
        pytest.skip("utterances have no classes")
    model, store = make_model(), make_store()
    data = labelled(store, model.tokenizer)
    joint = JointTask(model, data, 600, 0.4 if kind == "words" else 0.0, 0, unchanged)
    meta_learner = learner(name, Words(model) if kind == "words" else Utterances(model), 1, 0.02)  # type: ignore[arg-type]
    draw = (
        WordTasks(data, EpisodeShape(3, 2, 2), unchanged, 0)
        if kind == "words"
        else UtteranceTasks(data, UtteranceShape(2, 2), unchanged, 0)
    )
    task = MetaTask(joint, meta_learner, draw, tasks=2)
    optimizer = torch.optim.Adam([p for group in task.groups() for p in group["params"]], 0.003)
    before = {name: value.clone() for name, value in model.named_buffers()}
    total = []
    for step in range(10):
        loss, record = task(step, generator(step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        assert set(record) == {"loss", "ctc", "accuracy"}
        assert np.isfinite(list(record.values())).all()
        total.append(record["loss"] + record["ctc"])
    assert np.mean(total[-3:]) < np.mean(total[:3])
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    # A bias before a softmax over frames has no gradient, so its rate has none either.
    changed = {
        n for n, rate in task.learned().items() if not torch.equal(rate, meta_learner.meta_parameters()[n])
    }
    assert set(task.learned()) - changed <= {"rate.word.attention.2.bias"}


def test_learned_rates_are_saved_with_the_model(make_model: Callable[..., Network], tmp_path: Path) -> None:
    meta_parameters = learner("metasgd", Words(make_model()), 1, 0.02).meta_parameters()
    save_rates({}, tmp_path)
    with pytest.raises(UserError, match="no learned rates"):
        load_rates(tmp_path)
    save_rates(meta_parameters, tmp_path)
    loaded = load_rates(tmp_path)
    assert loaded.keys() == meta_parameters.keys()
    assert all(torch.equal(loaded[n], meta_parameters[n]) for n in meta_parameters)


def test_a_word_task_has_clips_and_labels_from_the_store(
    make_store: Callable[..., Store], unchanged: Perturb
) -> None:
    store = make_store()
    data = labelled(store, TOKENIZER)
    draw = WordTasks(data, EpisodeShape(3, 2, 2, unknown=1), unchanged, 0)
    task = draw(5, 1.0, generator())
    assert task.support.targets.sum(0).tolist() == [2, 2, 2]
    assert task.query.targets.sum(0).tolist() == [2, 2, 2]
    assert task.query.targets.sum(1).tolist() == [1] * 6 + [0] * 2
    assert draw.clips == (6, 8)
    stored = {tuple(store[row][0].tolist()): int(data.labels[row]) for row in range(len(store))}
    words = {
        (stored[tuple(mel[0].tolist())], int(target.argmax()))
        for mel, target in zip(task.support.mels, task.support.targets, strict=True)
    }
    assert len(words) == len({word for word, _ in words}) == 3
    unknown = {stored[tuple(mel[0].tolist())] for mel in task.query.mels[6:]}
    assert unknown.isdisjoint(word for word, _ in words)
    again = draw(5, 1.0, generator())
    assert torch.equal(again.query.mels, task.query.mels)
    easier = draw(5, 0.25, generator())
    assert easier.support.targets.shape == (4, 2)
    assert torch.equal(easier.support.mels[0], task.support.mels[0])


def test_an_utterance_task_has_one_condition(make_store: Callable[..., Store], unchanged: Perturb) -> None:
    store = make_store()
    data = labelled(store, TOKENIZER)
    for step in range(5):
        task = UtteranceTasks(data, UtteranceShape(2, 1), unchanged, 0)(step, 1.0, generator())
        rows = [
            row
            for half in task
            for mel in half.mels
            for row in range(len(store))
            if starts_with(store[row], mel)
        ]
        assert len(set(rows)) == 3
        assert store.rows["speaker"].iloc[rows].nunique() == 1
        texts = [[t for t in target.tolist() if t >= 0] for half in task for target in half.targets]
        assert texts == [data.tokens[row] for row in rows]


def test_a_curriculum_rises_linearly_to_full_difficulty() -> None:
    curriculum = Curriculum(0.5, 100)
    assert [curriculum(step) for step in (0, 25, 50, 99)] == [0.25, 0.625, 1.0, 1.0]
    assert np.mean([curriculum(step) for step in range(100)]) == pytest.approx(curriculum.mean, abs=0.01)
    assert Curriculum()(0) == Curriculum().mean == 1


def test_selected_clips_are_reversed() -> None:
    mels, lengths = torch.randn(3, 6, 2, generator=generator()), torch.tensor([4, 6, 3])
    reversed_clips = reverse_clips(mels, lengths, torch.tensor([True, False, True]))
    assert torch.equal(reversed_clips[0], torch.cat([mels[0, :4].flip(0), mels[0, 4:]]))
    assert torch.equal(reversed_clips[1], mels[1])
    assert torch.equal(reversed_clips[2, :3], mels[2, :3].flip(0))


def perturbed_copies(perturb: Perturb, seed: int, clips: int = 3) -> torch.Tensor:
    """Copies of one clip after perturbation in the same task: (clips, time, mel)."""
    clip = torch.linspace(-8, -2, 50)[:, None] + torch.linspace(0, 2, 16)
    mels, lengths = perturb(clip.repeat(clips, 1, 1), torch.full((clips,), 50), generator(seed))
    assert mels.shape[:2] == (clips, int(lengths.max()))
    assert int(lengths.max() - lengths.min()) <= 1  # the start of a clip may fall between frames
    return mels[:, : int(lengths.min())]


@pytest.mark.parametrize("kind", ["simulated", "generated"])
def test_all_clips_of_a_task_are_in_one_room(kind: str) -> None:
    torch.manual_seed(0)
    perturb: Perturb = Perturbation(stretch=0.0, noise_chance=0.0, mask_chance=0.0, reverberation_chance=1.0)
    if kind == "generated":
        environment = Environment(GeneratorConfig(FeatureConfig(mels=16))).eval()
        torch.nn.init.normal_(environment.spread.weight)
        silent = Perturbation(0, 0, 0, 0, reverberation_chance=0, bandlimit_chance=0, mask_chance=0)
        perturb = Environments(environment, 1.0, silent)
    first_task, second_task, separate_rooms = (
        perturbed_copies(SharedRoom(perturb), 0),
        perturbed_copies(SharedRoom(perturb), 1),
        perturbed_copies(perturb, 0),
    )

    def spread(mels: torch.Tensor) -> float:
        return float((mels.mean(1) - mels.mean((0, 1))).abs().mean())

    assert spread(first_task) < 0.25 * spread(separate_rooms)
    assert float((first_task.mean((0, 1)) - second_task.mean((0, 1))).abs().mean()) > 4 * spread(first_task)


def test_a_room_without_effect_returns_the_clips(unchanged: Perturb) -> None:
    lengths = torch.tensor([5, 9, 2])
    mels = torch.randn(3, 9, 4, generator=generator()).clamp_min(LOG_FLOOR)
    out, after = SharedRoom(unchanged)(mels, lengths, generator())
    assert torch.equal(after, lengths)
    assert all(torch.equal(a[:n], b[:n]) for a, b, n in zip(out, mels, lengths.tolist(), strict=True))


def starts_with(a: torch.Tensor, b: torch.Tensor) -> bool:
    return len(b) >= len(a) and torch.equal(a, b[: len(a)])


def test_relative_rates_keep_the_ratios_of_the_learned_rates(tmp_path: Path) -> None:
    meta_parameters = {
        "rate.a.weight": torch.log(torch.tensor([0.1, 0.4])),
        "rate.b": torch.log(torch.tensor(0.05)),
        "rate.head": torch.tensor(9.0),
    }
    save_rates(meta_parameters, tmp_path)
    relative = relative_rates(tmp_path)
    assert set(relative) == {"a.weight", "b"}, "the head of a task is no part of a model"
    assert relative["a.weight"] / relative["b"] == pytest.approx(0.2 / 0.05)
    assert relative["a.weight"] * relative["b"] == pytest.approx(1.0), (
        "the geometric mean of the relative rates is 1"
    )


def test_words_of_a_task_share_a_language_unless_mixed(
    make_store: Callable[..., Store], unchanged: Perturb
) -> None:
    store = make_store(("ab", "cd", "ef", "gh"))
    store.rows["language"] = store.rows["text"].map(lambda text: "en" if text in ("ab", "cd") else "fr")
    data = labelled(store, TOKENIZER)
    language = dict(
        zip((tuple(store[row][0].tolist()) for row in range(len(store))), store.rows["language"], strict=True)
    )

    def language_counts(mixed: bool) -> set[int]:
        draw = WordTasks(data, EpisodeShape(2, 1, 1), unchanged, 0, mix_languages=mixed)
        tasks = [draw(step, 1.0, generator()) for step in range(30)]
        return {len({language[tuple(mel[0].tolist())] for mel in task.support.mels}) for task in tasks}

    assert language_counts(mixed=False) == {1}
    assert language_counts(mixed=True) == {1, 2}
