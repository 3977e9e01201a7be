"""Enrolment: expected accuracy, CTC weight, rejection of other words, and invalid input."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from metavox.adaptation.checks import recording_warnings
from metavox.dataset.store import Store
from metavox.enrolment.enrol import (
    EnrolConfig,
    Method,
    Support,
    _ctc_weight,
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


def vocabulary_of(delta: Delta) -> Vocabulary:
    assert delta.vocabulary is not None
    return delta.vocabulary


def scores(model: Network, delta: Delta, mels: list[torch.Tensor]) -> torch.Tensor:
    return ConformerRecogniser(model, "small", BASE).score_words(vocabulary_of(delta), mels)


@pytest.fixture
def model(make_model: Callable[..., Network], make_store: Callable[..., Store]) -> Network:
    """A model with a cohort of words that no test enrols."""
    model = make_model()
    build_cohort(model, make_store(tuple("ijklmnop"), seed=5), count=60)
    return model


@pytest.fixture
def clips_of(make_store: Callable[..., Store]) -> Callable[[str], Clips]:
    store = make_store(("ab", "cd", "ef", "gh", "uv", "xy"))

    def of(words: str) -> Clips:
        rows = store.rows.index[(store.rows["unit"] == "word") & store.rows["text"].isin(words.split())]
        return [store[row] for row in rows], store.rows.loc[rows, "text"].tolist()

    return of


@pytest.mark.parametrize("method", get_args(Method))
def test_every_method_recognises_new_clips_and_estimates_its_accuracy(
    model: Network, clips_of: Callable[[str], Clips], method: Method
) -> None:
    mels, labels = clips_of("ab cd ef gh")
    support = [i for i in range(len(mels)) if i // 4 % 2]
    delta = enrol_words(
        model, BASE, [mels[i] for i in support], [labels[i] for i in support], EnrolConfig(method)
    )
    query = [i for i in range(len(mels)) if i // 4 % 2 == 0]
    predictions = scores(model, delta, [mels[i] for i in query]).argmax(dim=1)
    accuracy = np.mean(
        [delta.words[prediction] == labels[i] for prediction, i in zip(predictions, query, strict=True)]
    )
    expected = delta.about["expected"]
    assert isinstance(expected, dict)
    assert expected["accuracy"]["low"] <= accuracy <= expected["accuracy"]["high"] + 0.05
    assert expected["clips"] == len(support)
    assert "expected_voices" not in delta.about


def test_with_speakers_there_is_an_estimate_for_other_speakers(
    model: Network, clips_of: Callable[[str], Clips]
) -> None:
    mels, labels = clips_of("ab cd")
    speakers = [("one", "two")[i // 2 % 2] for i in range(len(mels))]
    about = enrol_words(model, BASE, mels, labels, speakers=speakers).about
    assert isinstance(about["expected_voices"], dict)
    assert about["expected_voices"]["clips"] == len(mels)


def test_fewer_false_accepts_mean_a_higher_threshold(
    model: Network, clips_of: Callable[[str], Clips]
) -> None:
    mels, labels = clips_of("ab cd ef gh")
    strict, lax = (
        enrol_words(model, BASE, mels, labels, EnrolConfig(false_accepts=rate, spelling=False))
        for rate in (0.01, 0.2)
    )
    threshold = vocabulary_of(lax).threshold
    assert vocabulary_of(strict).threshold > threshold
    others = scores(model, lax, clips_of("uv xy")[0]).amax(dim=1)
    own = scores(model, lax, mels).amax(dim=1)
    assert float((own >= threshold).float().mean()) > float((others >= threshold).float().mean())


def test_the_ctc_weight_follows_the_reliability_of_spelling_scores() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat_interleave(20)
    noise = torch.randn(120, 6, generator=random)
    reliable = noise + 6.0 * torch.nn.functional.one_hot(labels, 6)
    embeddings = torch.zeros(120, 1, 3)
    assert _ctc_weight(Support(embeddings, labels, reliable, 6), None) >= 1
    assert _ctc_weight(Support(embeddings, labels, noise, 6), None) == 0


def invalid_input(name: str, clips: Clips) -> Clips:
    mels, labels = clips
    silence = torch.full((60, 16), -18.4)
    return {
        "one word": (mels[:3], ["ab"] * 3),
        "one clip": (mels[:1], labels[:1]),
        "identical clips": ([mels[0]] * 4 + [mels[1]] * 4, ["ab"] * 4 + ["cd"] * 4),
        "contradictory labels": ([mels[0], mels[0], *mels[1:4]], ["ab", "cd", *labels[1:4]]),
        "silence": ([*mels[:4], silence, silence + 0.01], [*labels[:4], "hush", "hush"]),
        "0.1 s": ([*mels[:4], mels[0][:10]], [*labels[:4], "short"]),
        "60 s": ([*mels[:4], mels[0].repeat(250, 1)], [*labels[:4], "long"]),
    }[name]


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("one word", "only one word, 'ab'"),
        ("one clip", "only one word"),
        ("identical clips", "6 recordings are copies"),
        ("contradictory labels", "have several labels, such as 'ab' and 'cd'"),
        ("silence", "no speech in any of the 2 recordings of 'hush'"),
        ("0.1 s", "1 recordings are shorter"),
        ("60 s", "1 recordings are longer than 10 s"),
    ],
)
@pytest.mark.parametrize("with_cohort", [True, False])
def test_invalid_input_gives_a_warning_and_a_finite_vocabulary(
    make_model: Callable[..., Network],
    model: Network,
    clips_of: Callable[[str], Clips],
    name: str,
    warning: str,
    with_cohort: bool,
) -> None:
    mels, labels = invalid_input(name, clips_of("ab cd"))
    embedder = ConformerRecogniser(model if with_cohort else make_model(), "small", BASE)
    warnings = recording_warnings(mels, labels, embedder, words=True)
    assert any(warning in line for line in warnings), warnings
    delta = enrol(embedder, mels, labels)
    assert delta.words == tuple(sorted(set(labels)))
    assert np.isfinite(vocabulary_of(delta).threshold)
    assert torch.isfinite(vocabulary_of(delta).prototypes).all()


def test_identical_clips_give_no_estimate(model: Network, clips_of: Callable[[str], Clips]) -> None:
    mels, labels = invalid_input("identical clips", clips_of("ab cd"))
    assert "expected" not in enrol_words(model, BASE, mels, labels).about


def test_five_hundred_words_can_be_enrolled(model: Network) -> None:
    random = torch.Generator().manual_seed(0)
    mels = [torch.randn(20, 16, generator=random) - 6 for _ in range(1000)]
    delta = enrol_words(model, BASE, mels, [f"w{i // 2}" for i in range(1000)], EnrolConfig(spelling=False))
    assert len(delta.words) == 500
    assert isinstance(delta.about["expected"], dict)


def test_similar_enrolled_words_raise_the_threshold_above_that_of_the_cohort(
    model: Network, clips_of: Callable[[str], Clips]
) -> None:
    mels, labels = clips_of("ab cd ef gh")
    delta = enrol_words(
        model, BASE, mels, labels, EnrolConfig("prototypes", false_accepts=0.05, spelling=False)
    )
    codes = torch.tensor([delta.words.index(label) for label in labels])
    others = scores(model, delta, mels).scatter(1, codes[:, None], -torch.inf).amax(dim=1)
    assert model.cohort is not None
    cohort = model.cohort.embeddings.float()
    cohort_scores = (cohort @ vocabulary_of(delta).prototypes.T - model.cohort.own_nearest()[:, None]).amax(
        dim=1
    )
    assert vocabulary_of(delta).threshold >= float(cohort_scores.quantile(0.95)) - 1e-4
    assert float((others >= vocabulary_of(delta).threshold).float().mean()) <= 0.15, (
        "clips of other words of the same speakers"
    )


def test_enrolled_words_are_unit_vectors_nearest_to_their_own_clips(
    make_model: Callable[..., Network], clips_of: Callable[[str], Clips]
) -> None:
    model = make_model()
    mels, labels = clips_of("ab cd ef gh")
    mels, labels = mels[:12], labels[:12]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    delta = enrol_words(model, BASE, mels, labels)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (delta.base, vocabulary_of(delta).embedder, delta.sections) == (BASE, BASE, ("vocabulary",))
    assert delta.words == ("ab", "cd", "ef", "gh")
    torch.testing.assert_close(vocabulary_of(delta).prototypes.norm(dim=1), torch.ones(4))
    similarity = ConformerRecogniser(model, "small", BASE).embed(mels) @ vocabulary_of(delta).prototypes.T
    assert [delta.words[i] for i in similarity.argmax(dim=1)] == labels
    assert vocabulary_of(delta).threshold < float(similarity.amax(dim=1).min()) + 1e-6


@pytest.mark.parametrize("clips", [1, 3])
def test_the_threshold_accepts_a_word_and_rejects_another(clips: int) -> None:
    random = torch.Generator().manual_seed(1)
    words = torch.nn.functional.normalize(torch.randn(6, 64, generator=random), dim=1)
    noisy = words.repeat_interleave(clips, 0) + 0.05 * torch.randn(6 * clips, 64, generator=random)
    embeddings = torch.nn.functional.normalize(noisy, dim=1)
    labels = torch.arange(5).repeat_interleave(clips)
    threshold = threshold_of_support(embeddings[: 5 * clips] @ words[:5].T, labels)
    assert threshold < float((embeddings[: 5 * clips] * words[:5].repeat_interleave(clips, 0)).sum(1).min())
    assert threshold > float((embeddings[5 * clips :] @ words[:5].T).max())


def test_a_single_word_has_a_threshold_and_an_empty_vocabulary_is_refused(
    make_model: Callable[..., Network],
) -> None:
    mels = [torch.randn(20, 16) for _ in range(2)]
    assert -1.25 < vocabulary_of(enrol_words(make_model(), "b", mels, ["x", "x"])).threshold < 1
    with pytest.raises(UserError, match="no labelled clip"):
        enrol_words(make_model(), "b", [], [])


def test_samples_and_their_log_mels_give_the_same_vocabulary(make_model: Callable[..., Network]) -> None:
    embedder = ConformerRecogniser(make_model().requires_grad_(False), "small", BASE)
    random = np.random.default_rng(0)
    clips = [random.normal(0, 0.1, 8000).astype(np.float32) for _ in range(4)]
    first, second = (
        enrol(embedder, audio, ["a", "a", "b", "b"]) for audio in (clips, embedder.prepare(clips))
    )
    assert torch.equal(vocabulary_of(first).prototypes, vocabulary_of(second).prototypes)
    assert first.about == second.about


def test_an_embedder_without_words_is_refused_in_one_line(make_model: Callable[..., Network]) -> None:
    embedder = ConformerRecogniser(make_model(), "small", BASE)
    embedder.network = torch.nn.Linear(1, 1)  # type: ignore[assignment]
    with pytest.raises(UserError, match="words are enrolled with a conformer, but small is a conformer"):
        enrol(embedder, [np.zeros(8000, np.float32)], ["a"])


def test_a_tuned_word_embedding_is_saved_in_the_vocabulary_and_used(
    model: Network, clips_of: Callable[[str], Clips], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metavox.enrolment import tune

    gains = iter([0, 1] * tune.FOLDS)  # every fold reports a gain
    monkeypatch.setattr(tune, "_correct", lambda *_: next(gains))
    mels, labels = clips_of("ab cd ef gh")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    delta = enrol_words(model, BASE, mels, labels, EnrolConfig("fine-tune", spelling=False))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    pooling = vocabulary_of(delta).pooling
    assert pooling.keys() == {f"word.{name}" for name, _ in model.word.named_parameters()}
    assert any(value.any() for value in pooling.values())
    without = Delta(BASE, vocabulary=replace(vocabulary_of(delta), pooling={}))
    assert not torch.allclose(scores(model, delta, mels), scores(model, without, mels), atol=1e-4)
    predictions = [delta.words[i] for i in scores(model, delta, mels).argmax(dim=1)]
    assert np.mean([prediction == label for prediction, label in zip(predictions, labels, strict=True)]) > 0.9
