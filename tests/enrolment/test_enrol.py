"""Vocabularies: what is expected of them, letters that help, other words that are kept out, and bad input."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from metavox.adaptation.checks import remarks
from metavox.dataset.store import Store
from metavox.enrolment.enrol import (
    EnrolConfig,
    Method,
    Support,
    _spelling_weight,
    enrol,
    enrol_words,
    threshold_of_support,
)
from metavox.enrolment.open_set import build_cohort
from metavox.errors import UserError
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network
from metavox.recognisers.delta import Delta, Vocabulary

Clips = tuple[list[torch.Tensor], list[str]]
BASE = "b" * 64


def words_of(delta: Delta) -> Vocabulary:
    assert delta.vocabulary is not None
    return delta.vocabulary


def scores(model: Network, delta: Delta, mels: list[torch.Tensor]) -> torch.Tensor:
    return ConformerRecogniser(model, "small", BASE).score_words(words_of(delta), mels)


@pytest.fixture
def model(make_model: Callable[..., Network], make_store: Callable[..., Store]) -> Network:
    """With a background of words that no test enrols."""
    made = make_model()
    build_cohort(made, make_store(tuple("ijklmnop"), seed=5), count=60)
    return made


@pytest.fixture
def said(make_store: Callable[..., Store]) -> Callable[[str], Clips]:
    store = make_store(("ab", "cd", "ef", "gh", "uv", "xy"))

    def of(words: str) -> Clips:
        rows = store.rows.index[(store.rows["unit"] == "word") & store.rows["text"].isin(words.split())]
        return [store[row] for row in rows], store.rows.loc[rows, "text"].tolist()

    return of


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_names_new_clips_and_says_what_to_expect(
    model: Network, said: Callable[[str], Clips], method: Method
) -> None:
    mels, labels = said("ab cd ef gh")
    taught = [i for i in range(len(mels)) if i // 4 % 2]
    delta = enrol_words(
        model, BASE, [mels[i] for i in taught], [labels[i] for i in taught], EnrolConfig(method)
    )
    asked = [i for i in range(len(mels)) if i // 4 % 2 == 0]
    guess = scores(model, delta, [mels[i] for i in asked]).argmax(dim=1)
    right = np.mean([delta.words[g] == labels[i] for g, i in zip(guess, asked, strict=True)])
    expected = delta.about["expected"]
    assert isinstance(expected, dict)
    assert expected["accuracy"]["low"] <= right <= expected["accuracy"]["high"] + 0.05
    assert expected["clips"] == len(taught)
    assert "expected_voices" not in delta.about


def test_speakers_are_told_apart_in_what_is_expected(model: Network, said: Callable[[str], Clips]) -> None:
    mels, labels = said("ab cd")
    speakers = [("one", "two")[i // 2 % 2] for i in range(len(mels))]
    about = enrol_words(model, BASE, mels, labels, speakers=speakers).about
    assert isinstance(about["expected_voices"], dict)
    assert about["expected_voices"]["clips"] == len(mels)


def test_fewer_false_accepts_are_a_higher_threshold(model: Network, said: Callable[[str], Clips]) -> None:
    mels, labels = said("ab cd ef gh")
    strict, lax = (
        enrol_words(model, BASE, mels, labels, EnrolConfig(false_accepts=rate, spelling=False))
        for rate in (0.01, 0.2)
    )
    least = words_of(lax).threshold
    assert words_of(strict).threshold > least
    others = scores(model, lax, said("uv xy")[0]).amax(dim=1)
    own = scores(model, lax, mels).amax(dim=1)
    assert float((own >= least).float().mean()) > float((others >= least).float().mean())


def test_letters_count_when_they_are_right_and_not_when_they_are_not() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat_interleave(20)
    noise = torch.randn(120, 6, generator=random)
    told = noise + 6.0 * torch.nn.functional.one_hot(labels, 6)
    empty = torch.zeros(120, 1, 3)
    assert _spelling_weight(Support(empty, labels, told, 6), None) >= 1
    assert _spelling_weight(Support(empty, labels, noise, 6), None) == 0


def bad(name: str, clips: Clips) -> Clips:
    mels, labels = clips
    silence = torch.full((60, 16), -18.4)
    return {
        "one class": (mels[:3], ["ab"] * 3),
        "one clip": (mels[:1], labels[:1]),
        "identical clips": ([mels[0]] * 4 + [mels[1]] * 4, ["ab"] * 4 + ["cd"] * 4),
        "contradictory labels": ([mels[0], mels[0], *mels[1:4]], ["ab", "cd", *labels[1:4]]),
        "silence": ([*mels[:4], silence, silence + 0.01], [*labels[:4], "hush", "hush"]),
        "0.1 s": ([*mels[:4], mels[0][:10]], [*labels[:4], "short"]),
        "60 s": ([*mels[:4], mels[0].repeat(250, 1)], [*labels[:4], "long"]),
    }[name]


@pytest.mark.parametrize(
    ("name", "remark"),
    [
        ("one class", "only one word, 'ab'"),
        ("one clip", "only one word"),
        ("identical clips", "6 recordings are copies"),
        ("contradictory labels", "have several labels, as 'ab' and 'cd'"),
        ("silence", "no speech in any of the 2 recordings of 'hush'"),
        ("0.1 s", "1 recordings are shorter"),
        ("60 s", "1 recordings are longer than 10 s"),
    ],
)
@pytest.mark.parametrize("background", [True, False])
def test_bad_input_is_remarked_on_and_makes_a_sensible_vocabulary(
    make_model: Callable[..., Network],
    model: Network,
    said: Callable[[str], Clips],
    name: str,
    remark: str,
    background: bool,
) -> None:
    mels, labels = bad(name, said("ab cd"))
    embedder = ConformerRecogniser(model if background else make_model(), "small", BASE)
    found = remarks(mels, labels, embedder, words=True)
    assert any(remark in line for line in found), found
    delta = enrol(embedder, mels, labels)
    assert delta.words == tuple(sorted(set(labels)))
    assert np.isfinite(words_of(delta).threshold)
    assert torch.isfinite(words_of(delta).prototypes).all()


def test_identical_clips_give_no_estimate(model: Network, said: Callable[[str], Clips]) -> None:
    mels, labels = bad("identical clips", said("ab cd"))
    assert "expected" not in enrol_words(model, BASE, mels, labels).about


def test_five_hundred_words(model: Network) -> None:
    random = torch.Generator().manual_seed(0)
    mels = [torch.randn(20, 16, generator=random) - 6 for _ in range(1000)]
    delta = enrol_words(model, BASE, mels, [f"w{i // 2}" for i in range(1000)], EnrolConfig(spelling=False))
    assert len(delta.words) == 500
    assert isinstance(delta.about["expected"], dict)


def test_words_near_one_another_raise_the_threshold_that_far_ones_would_set(
    model: Network, said: Callable[[str], Clips]
) -> None:
    mels, labels = said("ab cd ef gh")
    delta = enrol_words(
        model, BASE, mels, labels, EnrolConfig("prototypes", false_accepts=0.05, spelling=False)
    )
    codes = torch.tensor([delta.words.index(label) for label in labels])
    others = scores(model, delta, mels).scatter(1, codes[:, None], -torch.inf).amax(dim=1)
    assert model.cohort is not None
    bank = model.cohort.embeddings.float()
    far = (bank @ words_of(delta).prototypes.T - model.cohort.nearest(bank, skip=1)[:, None]).amax(dim=1)
    assert words_of(delta).threshold >= float(far.quantile(0.95)) - 1e-4
    assert float((others >= words_of(delta).threshold).float().mean()) <= 0.15, (
        "clips of other words of the same speakers"
    )


def test_enrolled_words_are_unit_vectors_nearest_to_their_own_clips(
    make_model: Callable[..., Network], said: Callable[[str], Clips]
) -> None:
    model = make_model()
    mels, labels = said("ab cd ef gh")
    mels, labels = mels[:12], labels[:12]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    delta = enrol_words(model, BASE, mels, labels)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (delta.base, words_of(delta).embedder, delta.sections) == (BASE, BASE, ("vocabulary",))
    assert delta.words == ("ab", "cd", "ef", "gh")
    torch.testing.assert_close(words_of(delta).prototypes.norm(dim=1), torch.ones(4))
    similarity = ConformerRecogniser(model, "small", BASE).embed(mels) @ words_of(delta).prototypes.T
    assert [delta.words[i] for i in similarity.argmax(dim=1)] == labels
    assert words_of(delta).threshold < float(similarity.amax(dim=1).min()) + 1e-6


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


def test_one_word_alone_has_a_threshold_too_and_none_is_refused(make_model: Callable[..., Network]) -> None:
    mels = [torch.randn(20, 16) for _ in range(2)]
    assert -1.25 < words_of(enrol_words(make_model(), "b", mels, ["x", "x"])).threshold < 1
    with pytest.raises(UserError, match="no labelled clip"):
        enrol_words(make_model(), "b", [], [])


def test_samples_are_enrolled_as_their_log_mels_are(make_model: Callable[..., Network]) -> None:
    embedder = ConformerRecogniser(make_model().requires_grad_(False), "small", BASE)
    random = np.random.default_rng(0)
    clips = [random.normal(0, 0.1, 8000).astype(np.float32) for _ in range(4)]
    first, second = (
        enrol(embedder, audio, ["a", "a", "b", "b"]) for audio in (clips, embedder.prepare(clips))
    )
    assert torch.equal(words_of(first).prototypes, words_of(second).prototypes)
    assert first.about == second.about


def test_what_embeds_no_words_is_refused_in_a_line(make_model: Callable[..., Network]) -> None:
    embedder = ConformerRecogniser(make_model(), "small", BASE)
    embedder.network = torch.nn.Linear(1, 1)  # type: ignore[assignment]
    with pytest.raises(UserError, match="words are enrolled with a conformer, small is a conformer"):
        enrol(embedder, [np.zeros(8000, np.float32)], ["a"])


def test_a_moved_embedding_is_kept_in_the_vocabulary_and_scores_with_it(
    model: Network, said: Callable[[str], Clips], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metavox.enrolment import tune

    gains = iter([0, 1] * tune.FOLDS)  # held-out clips gain, whatever they do
    monkeypatch.setattr(tune, "_right", lambda *_: next(gains))
    mels, labels = said("ab cd ef gh")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    delta = enrol_words(model, BASE, mels, labels, EnrolConfig("fine-tune", spelling=False))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    pooling = words_of(delta).pooling
    assert pooling.keys() == {f"word.{name}" for name, _ in model.word.named_parameters()}
    assert any(value.any() for value in pooling.values())
    without = Delta(BASE, vocabulary=replace(words_of(delta), pooling={}))
    assert not torch.allclose(scores(model, delta, mels), scores(model, without, mels), atol=1e-4)
    right = [delta.words[i] for i in scores(model, delta, mels).argmax(dim=1)]
    assert np.mean([guess == label for guess, label in zip(right, labels, strict=True)]) > 0.9
