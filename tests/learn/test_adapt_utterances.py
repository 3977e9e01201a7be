"""Parts, pull, rates, cross-validation and new characters of adaptation to transcribed recordings."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from metavox.corpus.store import Store
from metavox.learn.adapt import AdaptConfig, adapt_utterances, trainable, utterances
from metavox.learn.adapt.estimate import Heard, fold_numbers, hear, proportion
from metavox.learn.adapt.parts import Moved
from metavox.recognisers.conformer.delta import apply_deltas
from metavox.recognisers.conformer.network import Network, pad

SHORT = AdaptConfig(steps=12, learning_rate=0.02)


@pytest.fixture
def said(make_store: Callable[..., Store]) -> tuple[list[torch.Tensor], list[str]]:
    store = make_store()
    rows = store.rows.index[store.rows["unit"] == "sentence"]
    return [store[row] for row in rows], store.rows.loc[rows, "text"].tolist()


def size(differences: dict[str, torch.Tensor]) -> float:
    return sum(float(value.square().sum()) for value in differences.values())


def test_low_rank_is_small_lowers_the_loss_and_leaves_the_model(
    make_model: Callable[..., Network], said: tuple[list[torch.Tensor], list[str]]
) -> None:
    model, (mels, texts) = make_model(), said
    before = {name: value.clone() for name, value in model.state_dict().items()}
    delta = adapt_utterances(model, "base", mels, texts, replace(SHORT, part="lowrank", rank=2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert delta.factors.keys() == trainable(model, "lowrank")
    assert not delta.differences
    assert all(left.shape[1] == right.shape[0] == 2 for left, right in delta.factors.values())
    tokens = [model.tokenizer.encode(text) for text in texts]
    start = hear(model, mels, tokens).loss
    apply_deltas(model, "base", [delta])
    assert hear(model, mels, tokens).loss < 0.9 * start


def test_low_rank_begins_at_the_model_itself(
    make_model: Callable[..., Network], said: tuple[list[torch.Tensor], list[str]]
) -> None:
    model = make_model().eval()
    batch, lengths = pad(said[0])
    with torch.no_grad():
        expected, _ = model.characters(batch, lengths)
        found, _ = Moved(make_model().eval(), "lowrank", 2).student.characters(batch, lengths)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("part", ["norms", "lowrank"])
def test_the_pull_keeps_it_near_the_base(
    make_model: Callable[..., Network], said: tuple[list[torch.Tensor], list[str]], part: str
) -> None:
    config = replace(SHORT, part=part)  # type: ignore[arg-type]
    free, held = (
        adapt_utterances(make_model(), "base", *said, replace(config, pull=pull)) for pull in (0.0, 100.0)
    )
    far, near = (size({name: d.difference(name) for name in d.moves}) for d in (free, held))
    assert near < 0.7 * far


def test_a_rate_of_nothing_leaves_a_weight_where_it_was(
    make_model: Callable[..., Network], said: tuple[list[torch.Tensor], list[str]]
) -> None:
    rates = {"ctc": 0.0, "ctc.bias": 0.02}
    delta = adapt_utterances(make_model(), "base", *said, replace(SHORT, part="head", rates=rates))
    assert not delta.differences["ctc.weight"].any()
    assert delta.differences["ctc.bias"].any()


def test_what_is_expected_is_of_recordings_that_taught_nothing(
    make_model: Callable[..., Network],
    said: tuple[list[torch.Tensor], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taught: list[set[int]] = []
    judged: list[set[int]] = []

    def train(
        moved: Moved, recordings: utterances.Recordings, config: AdaptConfig, stop: int
    ) -> Iterator[tuple[int, float]]:
        taught.append({id(mel) for mel in recordings.mels})
        return iter([(step, 0.0) for step in range(stop)])

    def listen(model: Network, mels: list[torch.Tensor], tokens: list[list[int]]) -> Heard:
        judged.append({id(mel) for mel in mels})
        return hear(model, mels, tokens)

    monkeypatch.setattr(utterances, "_train", train)
    monkeypatch.setattr(utterances, "hear", listen)
    adapt_utterances(make_model(), "base", *said, replace(SHORT, folds=3))
    assert taught.pop() == {id(mel) for mel in said[0]}, "in the end from all of them"
    assert len(taught) == 3
    looks = len(judged) // 3
    for fold, inside in enumerate(taught):
        for outside in judged[fold * looks : (fold + 1) * looks]:
            assert outside
            assert not inside & outside
    assert set().union(*judged) == {id(mel) for mel in said[0]}, "each is asked about"


def test_steps_are_chosen_on_recordings_that_were_held_out(
    make_model: Callable[..., Network], said: tuple[list[torch.Tensor], list[str]]
) -> None:
    mels, texts = said
    delta = adapt_utterances(make_model(), "base", mels, texts, replace(SHORT, folds=3))
    expected = delta.about["expected"]
    assert isinstance(expected, dict)
    assert expected["folds"] == 3
    assert delta.about["steps"] in (3, 6, 9, 12)
    wrong = [*texts[1:], texts[0]]
    ruinous = replace(SHORT, folds=3, learning_rate=1.0, part="all")
    useless = adapt_utterances(make_model(), "base", mels, wrong, ruinous)
    if useless.about["steps"] == 0:
        assert not size(useless.differences)
    few = adapt_utterances(make_model(), "base", mels[:3], texts[:3], replace(SHORT, folds=3))
    assert "expected" not in few.about
    assert few.about["steps"] == 12


def test_characters_that_the_model_lacks_are_learned_and_undone_by_leaving_them_out(
    make_model: Callable[..., Network], said: tuple[list[torch.Tensor], list[str]]
) -> None:
    mels, latin = said
    texts = [text.translate(str.maketrans("abcdefgh", "абвгдежз")) for text in latin]
    model = make_model()
    delta = adapt_utterances(
        model, "base", mels, texts, replace(SHORT, steps=60, new_characters=True, part="frontend")
    )
    assert delta.characters is not None
    assert delta.characters.alphabet == "абвгдежз"
    assert model.tokenizer.encode("аб") == []
    adapted = make_model()
    apply_deltas(adapted, "base", [delta])
    tokens = [adapted.tokenizer.encode(text) for text in texts]
    start = make_model()
    start.add_characters("абвгдежз", torch.zeros(8, 16), torch.zeros(8))
    assert hear(adapted, mels, tokens).loss < 0.8 * hear(start, mels, tokens).loss


def test_identical_recordings_are_held_out_together_and_labels_are_spread() -> None:
    one, two, three = (torch.full((4, 2), float(n)) for n in range(3))
    number = fold_numbers([one, one, two, three], 3)
    assert number[0] == number[1]
    assert len(set(number.tolist())) == 3
    labelled = fold_numbers([one, two, one + 9, one + 9], 5, ["a", "a", "b", "b"])
    assert set(labelled[:2].tolist()) == {0, 1}
    assert set(labelled[2:].tolist()) == {-1}, "the only recording of b, twice: never held out"


def test_ten_of_ten_is_not_certain() -> None:
    all_right = proportion(np.ones(10, bool))
    assert all_right["mean"] == all_right["high"] == 1
    assert 0.70 < all_right["low"] < 0.73  # Wilson 1927: 10 / (10 + 1.96 ** 2)
