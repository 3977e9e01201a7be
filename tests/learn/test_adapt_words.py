"""Vocabularies: what is expected of them, letters that help, other words that are kept out, and bad input."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch

from metavox.audio.features import FeatureConfig
from metavox.corpus.store import Store
from metavox.learn.adapt import EnrolConfig, enrol_words
from metavox.learn.adapt.support import remarks
from metavox.learn.adapt.words import Method, _spelling_weight, _Support
from metavox.learn.openset import background_bank
from metavox.recognisers.conformer.enrolled import text_scores, word_scores
from metavox.recognisers.conformer.network import Network

Clips = tuple[list[torch.Tensor], list[str]]


@pytest.fixture
def model(make_model: Callable[..., Network], make_store: Callable[..., Store]) -> Network:
    """With a background of words that no test enrols."""
    made = make_model()
    background_bank(made, make_store(tuple("ijklmnop"), seed=5), count=60)
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
        model, "base", [mels[i] for i in taught], [labels[i] for i in taught], EnrolConfig(method)
    )
    asked = [i for i in range(len(mels)) if i // 4 % 2 == 0]
    guess = word_scores(model, delta, [mels[i] for i in asked]).argmax(dim=1)
    right = np.mean([delta.words[g] == labels[i] for g, i in zip(guess, asked, strict=True)])
    expected = delta.about["expected"]
    assert isinstance(expected, dict)
    assert expected["accuracy"]["low"] <= right <= expected["accuracy"]["high"] + 0.05
    assert expected["clips"] == len(taught)
    assert "expected_voices" not in delta.about


def test_voices_are_told_apart_in_what_is_expected(model: Network, said: Callable[[str], Clips]) -> None:
    mels, labels = said("ab cd")
    voices = [("one", "two")[i // 2 % 2] for i in range(len(mels))]
    about = enrol_words(model, "base", mels, labels, voices=voices).about
    assert isinstance(about["expected_voices"], dict)
    assert about["expected_voices"]["clips"] == len(mels)


def test_fewer_false_accepts_are_a_higher_threshold(model: Network, said: Callable[[str], Clips]) -> None:
    mels, labels = said("ab cd ef gh")
    strict, lax = (
        enrol_words(model, "base", mels, labels, EnrolConfig(false_accepts=rate, spelling=False))
        for rate in (0.01, 0.2)
    )
    assert strict.threshold > lax.threshold
    others = word_scores(model, lax, said("uv xy")[0]).amax(dim=1)
    own = word_scores(model, lax, mels).amax(dim=1)
    assert float((own >= lax.threshold).float().mean()) > float((others >= lax.threshold).float().mean())


def test_letters_count_when_they_are_right_and_not_when_they_are_not() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat_interleave(20)
    noise = torch.randn(120, 6, generator=random)
    told = noise + 6.0 * torch.nn.functional.one_hot(labels, 6)
    empty = torch.zeros(120, 1, 3)
    assert _spelling_weight(_Support(empty, labels, told, 6), None) >= 1
    assert _spelling_weight(_Support(empty, labels, noise, 6), None) == 0


def test_text_scores_are_ctc_log_likelihoods_a_character() -> None:
    chances = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    # "a" in two frames: a-blank, blank-a, a-a.
    expected = np.log(0.8 * 0.5 + 0.2 * 0.5 + 0.8 * 0.5)
    scores = text_scores(chances.log()[None], torch.tensor([2]), [[1], [], [1, 1, 1]])
    assert scores[0, 0] == pytest.approx(expected, abs=1e-5)
    assert scores[0, 1:].tolist() == [-20, -20], "nothing to say, and too long for the frames"


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
    make_model: Callable[..., Network], model: Network, said: Callable[[str], Clips],
    name: str, remark: str, background: bool,
) -> None:  # fmt: skip
    mels, labels = bad(name, said("ab cd"))
    found = remarks(mels, labels, FeatureConfig(mels=16), words=True)
    assert any(remark in line for line in found), found
    delta = enrol_words(model if background else make_model(), "base", mels, labels)
    assert delta.words == tuple(sorted(set(labels)))
    assert np.isfinite(delta.threshold)
    assert delta.prototypes is not None
    assert torch.isfinite(delta.prototypes).all()


def test_identical_clips_give_no_estimate(model: Network, said: Callable[[str], Clips]) -> None:
    mels, labels = bad("identical clips", said("ab cd"))
    assert "expected" not in enrol_words(model, "base", mels, labels).about


def test_five_hundred_words(model: Network) -> None:
    random = torch.Generator().manual_seed(0)
    mels = [torch.randn(20, 16, generator=random) - 6 for _ in range(1000)]
    delta = enrol_words(model, "base", mels, [f"w{i // 2}" for i in range(1000)], EnrolConfig(spelling=False))
    assert len(delta.words) == 500
    assert isinstance(delta.about["expected"], dict)


def test_good_recordings_are_not_remarked_on(said: Callable[[str], Clips]) -> None:
    assert remarks(*said("ab cd"), FeatureConfig(mels=16), words=True) == []


def test_words_near_one_another_raise_the_threshold_that_far_ones_would_set(
    model: Network, said: Callable[[str], Clips]
) -> None:
    mels, labels = said("ab cd ef gh")
    delta = enrol_words(
        model, "base", mels, labels, EnrolConfig("prototypes", false_accepts=0.05, spelling=False)
    )
    codes = torch.tensor([delta.words.index(label) for label in labels])
    scores = word_scores(model, delta, mels)
    others = scores.scatter(1, codes[:, None], -torch.inf).amax(dim=1)
    assert model.background is not None
    bank = model.background.embeddings.float()
    far = (bank @ delta.prototypes.T - model.background.cohort(bank, skip=1)[:, None]).amax(dim=1)
    assert float(delta.threshold) >= float(far.quantile(0.95)) - 1e-4
    assert float((others >= delta.threshold).float().mean()) <= 0.15, (
        "clips of other words of the same voices"
    )
