"""n-gram models: probabilities that sum to one, back-off, ARPA files, and their weight in a search."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from metavox.errors import UserError
from metavox.recognisers.guide import Reading, characters, read
from metavox.recognisers.prefix_search import prefix_search
from metavox.recognition.language_model import BEGIN, END, UNKNOWN, LanguageModel, estimate, read_arpa

TEXTS = ["the cat sat", "the cat ran", "the dog sat", "a dog ran to the cat"]
ARPA = r"""
\data\
ngram 1=5
ngram 2=3

\1-grams:
-1.0	<unk>
-99	<s>	-0.3
-0.8	</s>
-0.5	red	-0.2
-0.7	king

\2-grams:
-0.1	<s> red
-0.2	red king
-0.4	king </s>

\end\
"""


def words_of(texts: list[str]) -> set[str]:
    return {word for text in texts for word in text.split()} | {END}


@pytest.mark.parametrize(
    "before", [(), (BEGIN,), (BEGIN, "the"), ("the", "cat"), ("never", "seen"), ("dog", "ran")]
)
def test_the_probabilities_of_known_words_sum_to_nearly_one(before: tuple[str, ...]) -> None:
    model = estimate(TEXTS)
    total = sum(math.exp(model.log_prob(word, before)) for word in words_of(TEXTS))
    assert 0.85 < total <= 1.0 + 1e-9


def test_what_was_seen_more_often_is_likelier() -> None:
    model = estimate(TEXTS)
    assert model.log_prob("cat", ("the",)) > model.log_prob("dog", ("the",)) > model.log_prob("ran", ("the",))
    assert model.log_prob("zebra", ("the",)) < model.log_prob("ran", ("the",))
    with pytest.raises(UserError, match="no text"):
        estimate(["?!", ""])


def test_an_arpa_file(tmp_path: Path) -> None:
    (tmp_path / "m.arpa").write_text(ARPA)
    model = read_arpa(tmp_path / "m.arpa")
    ten = math.log(10)
    assert model.log_prob("red", (BEGIN,)) == pytest.approx(-0.1 * ten)
    assert model.log_prob("king", ("red",)) == pytest.approx(-0.2 * ten)
    assert model.log_prob(END, ("red",)) == pytest.approx((-0.8 - 0.2) * ten)
    assert model.log_prob("zebra", ("red",)) == model.log_prob(UNKNOWN, ("red",))
    for name, content in (("broken.arpa", "ngram 1=3\nred red"), ("missing.arpa", None)):
        if content:
            (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=name) as caught:
            read_arpa(tmp_path / name)
        assert "\n" not in str(caught.value)


def score(model: LanguageModel, text: str) -> float:
    step = read(model, Reading(model.start), characters(text))
    assert step is not None
    return step[1] + model.end(step[0].state)


def test_the_weight_of_a_text_is_that_of_its_words() -> None:
    grams = estimate(TEXTS, order=2)
    model = LanguageModel([grams], weight=0.5, word_bonus=0.7)
    pairs = [(BEGIN, "the"), ("the", "cat"), ("cat", "sat"), ("sat", END)]
    expected = sum(0.5 * grams.log_prob(word, (before,)) for before, word in pairs) + 3 * 0.7
    assert score(model, "The cat sat!") == pytest.approx(expected)
    assert score(model, "the cat sat") > score(model, "sat cat the")


def test_models_are_averaged() -> None:
    one, other = estimate(["red king"]), estimate(["blue queen"])
    both = LanguageModel([one, other], weight=1.0, word_bonus=0.0)
    shares = [math.exp(model.log_prob("red", (BEGIN,))) for model in (one, other)]
    step = read(both, Reading(both.start), "red x")
    assert step is not None
    assert step[1] == pytest.approx(math.log(np.mean(shares)), abs=1e-6)


def test_a_search_prefers_the_words_of_the_model() -> None:
    written = ("", *"acst ")
    rows = np.full((6, len(written)), -6.0)
    for frame, options in enumerate([(2,), (1,), (4, 3), (5,), (3,), (1,)]):
        rows[frame, list(options)] = -0.7 - 0.05 * np.arange(len(options))
    found = prefix_search(rows, written, 0, 20, LanguageModel([estimate(["cat sa"])], 1.0, 0.0))
    plain = prefix_search(rows, written, 0, 20)
    assert found is not None
    assert plain is not None
    assert "".join(written[i] for i in found[0]) == "cat sa"
    swapped = rows[:, [0, 1, 2, 4, 3, 5]]
    assert prefix_search(swapped, written, 0, 20) != found
    assert list(itertools.chain(plain[0])) == found[0]
