"""Adaptation: a delta that helps, and a model that stays as it was."""

from collections.abc import Callable

import pytest
import torch

from metavox.corpus.store import Store
from metavox.errors import UserError
from metavox.learn.adapt import AdaptConfig, adapt_utterances, enrol_words, trainable
from metavox.learn.adapt.words import threshold_of_support
from metavox.learn.joint import ctc_loss
from metavox.recognisers.conformer.delta import apply_deltas
from metavox.recognisers.conformer.network import Network, pad


def utterances(store: Store) -> tuple[list[torch.Tensor], list[str]]:
    rows = store.rows.index[store.rows["unit"] == "sentence"]
    return [store[row] for row in rows], store.rows.loc[rows, "text"].tolist()


def loss(model: Network, mels: list[torch.Tensor], texts: list[str]) -> float:
    with torch.inference_mode():
        characters, lengths = model.characters(*pad(mels))
        return float(ctc_loss(characters, lengths, [model.tokenizer.encode(text) for text in texts]))


@pytest.mark.parametrize("part", ["norms", "head", "all"])
def test_the_delta_lowers_the_loss_and_the_model_stays(
    make_model: Callable[..., Network], make_store: Callable[..., Store], part: str
) -> None:
    model, (mels, texts) = make_model(), utterances(make_store())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses: list[float] = []
    config = AdaptConfig(12, 0.01, part, seed=1)  # type: ignore[arg-type]
    delta = adapt_utterances(model, "base", mels, texts, config, lambda _, value: losses.append(value))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert delta.differences.keys() == trainable(model, config.part)
    assert len(losses) == 12
    start = loss(model, mels, texts)
    apply_deltas(model, "base", [delta])
    assert loss(model, mels, texts) < 0.9 * start
    again = adapt_utterances(make_model(), "base", mels, texts, config)
    assert all(torch.equal(value, again.differences[name]) for name, value in delta.differences.items())


def test_parts_are_nested_and_words_are_never_moved(make_model: Callable[..., Network]) -> None:
    model = make_model()
    head, norms, everything = (trainable(model, part) for part in ("head", "norms", "all"))
    assert head < norms < everything
    assert head == {"ctc.weight", "ctc.bias"}
    assert not any(name.startswith("word.") for name in everything)


def test_texts_that_nothing_can_write_are_refused(make_model: Callable[..., Network]) -> None:
    with pytest.raises(UserError, match="none of 2 texts"):
        adapt_utterances(make_model(), "b", [torch.zeros(9, 16)] * 2, ["да", ""], AdaptConfig())


def test_enrolled_words_are_unit_vectors_nearest_to_their_own_clips(
    make_model: Callable[..., Network], make_store: Callable[..., Store]
) -> None:
    model, store = make_model(), make_store()
    rows = store.rows.index[store.rows["unit"] == "word"][:12]
    labels = store.rows.loc[rows, "text"].tolist()
    delta = enrol_words(model, "base", [store[row] for row in rows], labels)
    assert delta.words == ("ab", "cd", "ef", "gh")
    assert delta.prototypes is not None
    torch.testing.assert_close(delta.prototypes.norm(dim=1), torch.ones(4))
    with torch.inference_mode():
        similarity = model.embed(*store.batch(rows.to_numpy())) @ delta.prototypes.T
    assert [delta.words[i] for i in similarity.argmax(dim=1)] == labels
    assert delta.threshold < float(similarity.amax(dim=1).min()) + 1e-6
    assert not delta.differences


@pytest.mark.parametrize("clips", [1, 3])
def test_the_threshold_lets_a_word_in_and_keeps_another_out(clips: int) -> None:
    random = torch.Generator().manual_seed(1)
    words = torch.nn.functional.normalize(torch.randn(6, 64, generator=random), dim=1)
    noisy = words.repeat_interleave(clips, 0) + 0.05 * torch.randn(6 * clips, 64, generator=random)
    embedded = torch.nn.functional.normalize(noisy, dim=1)
    labels = torch.arange(5).repeat_interleave(clips)
    threshold = threshold_of_support(embedded[: 5 * clips] @ words[:5].T, labels)
    assert threshold < float((embedded[: 5 * clips] * words[:5].repeat_interleave(clips, 0)).sum(1).min())
    assert threshold > float((embedded[5 * clips :] @ words[:5].T).max())


def test_one_word_alone_has_a_threshold_too_and_none_is_refused(
    make_model: Callable[..., Network],
) -> None:
    mels = [torch.randn(20, 16) for _ in range(2)]
    assert -1.25 < enrol_words(make_model(), "b", mels, ["x", "x"]).threshold < 1
    with pytest.raises(UserError, match="no labelled clip"):
        enrol_words(make_model(), "b", [], [])
