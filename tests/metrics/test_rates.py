"""Error rates and scores match values calculated by hand, and intervals match simulations."""

import numpy as np
import pytest

from metavox.metrics.rates import (
    Errors,
    character_errors,
    classification,
    confusion,
    mean_interval,
    word_errors,
)

TEXTS = ["the cat sat", "да нет", "a", "don't stop"]


def edit_distance(a: list[str] | str, b: list[str] | str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        left = row[0]
        row[0] = i
        for j, y in enumerate(b, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (x != y))
    return row[-1]


@pytest.mark.parametrize("errors", [word_errors, character_errors])
def test_equal_texts_give_0_an_empty_hypothesis_gives_1_and_form_does_not_count(errors) -> None:  # type: ignore[no-untyped-def]
    assert errors(TEXTS, TEXTS).rate == 0
    assert errors(TEXTS, [""] * 4).rate == 1
    assert errors(["Don’t  STOP!"], ["don't stop"]).rate == 0


@pytest.mark.parametrize("seed", range(5))
def test_edits_match_a_second_implementation(seed: int) -> None:
    random = np.random.default_rng(seed)
    hypotheses = [
        " ".join(random.permutation([*text.split(), "cat", "x"])[: random.integers(4)]) for text in TEXTS
    ]
    words, characters = word_errors(TEXTS, hypotheses), character_errors(TEXTS, hypotheses)
    assert words.edits.tolist() == [
        edit_distance(a.split(), b.split()) for a, b in zip(TEXTS, hypotheses, strict=True)
    ]
    assert characters.edits.tolist() == [edit_distance(a, b) for a, b in zip(TEXTS, hypotheses, strict=True)]
    assert words.lengths.tolist() == [3, 2, 1, 2]
    assert characters.lengths.tolist() == [len(text) for text in TEXTS]
    # Edit distance is symmetric.
    assert word_errors(["a", *hypotheses], ["a", *TEXTS]).edits[1:].tolist() == words.edits.tolist()


def test_words_for_an_empty_reference_count_as_insertions() -> None:
    errors = word_errors(["", "a b"], ["x y", "a b"])
    assert (errors.edits.tolist(), errors.lengths.tolist(), errors.rate) == ([2, 0], [0, 2], 1.0)


def test_the_rate_of_combined_texts_is_a_ratio_of_sums() -> None:
    long, short = word_errors(["a b c d e f g h i"], ["a b c d e f g h i"]), word_errors(["a"], ["b"])
    assert (long + short).rate == pytest.approx(0.1)


def test_classification_by_hand() -> None:
    truth, guess = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])
    assert confusion(truth, guess, 3).tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    scores = classification(truth, guess, 3)
    assert scores.accuracy == pytest.approx(3 / 6)
    assert scores.precision == pytest.approx((2 / 4 + 1 / 2 + 0) / 3)
    assert scores.recall == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert scores.f1 == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)


def test_all_correct_gives_1_all_wrong_gives_0_and_absent_classes_do_not_count() -> None:
    truth = np.array([0, 1, 1])
    for classes in (2, 5):
        correct = classification(truth, truth, classes)
        assert (correct.accuracy, correct.precision, correct.recall, correct.f1) == (1, 1, 1, 1)
    wrong = classification(truth, 1 - truth, 2)
    assert (wrong.accuracy, wrong.precision, wrong.recall, wrong.f1) == (0, 0, 0, 0)


def test_the_interval_of_a_mean_has_its_nominal_coverage() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(500):
        interval = mean_interval(random.random(60) < 0.7)
        covered += abs(interval.mean - 0.7) <= interval.ci95
    assert 0.91 <= covered / 500 <= 0.98


def test_the_bootstrap_interval_of_a_rate_has_its_nominal_coverage() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        lengths = random.integers(1, 12, 60)
        interval = Errors(random.binomial(lengths, 0.3), lengths).interval(seed, 200)
        covered += abs(interval.mean - 0.3) <= interval.ci95
    assert 0.88 <= covered / 200 <= 0.99


def test_the_seed_determines_the_bootstrap() -> None:
    errors = Errors(np.array([1, 0, 3]), np.array([3, 2, 4]))
    assert errors.interval(1) == errors.interval(1)
    assert str(mean_interval([0.0, 1.0])) == "50.0 ± 98.0"


@pytest.mark.parametrize(
    ("reference", "hypothesis", "language"),
    [
        ("Straße", "STRASSE", ""),
        ("IŞIK İstanbul", "ışık istanbul", "tr"),
        ("Iğdır", "ığdır", "az-Latn-AZ"),
        ("İstanbul", "istanbul", "en"),
        ("مُحَمَّد", "محمد", "ar"),
        ("كـــتاب", "كتاب", "ar"),
        ("می\u200cخواهم", "میخواهم", "fa"),
        ("क्\u200dष", "क्ष", "hi"),
        ("ﬁne ｆｕｌｌ", "fine full", ""),
        ("café", "cafe\u0301", ""),
        ("o‘zbek об’єкт", "oʻzbek обʼєкт", ""),
        ("co\u00adoperate", "cooperate", ""),
        ("我 爱 你。", "我爱你", "zh"),
    ],
)
def test_variants_of_spelling_are_not_errors(reference: str, hypothesis: str, language: str) -> None:
    for errors in (word_errors, character_errors):
        assert errors([reference], [hypothesis], [language]).rate == 0
        assert errors([hypothesis], [reference], [language]).rate == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "language"),
    [
        ("IŞIK", "ışık", "en"),  # only Turkish has a dotless capital I
        ("sıkıldım", "sikildim", "tr"),
        ("أحمد", "احمد", "ar"),  # letters are not unified
        ("ガ", "カ", "ja"),
        ("resume", "résumé", "fr"),
    ],
)
def test_other_letters_are_errors(reference: str, hypothesis: str, language: str) -> None:
    assert character_errors([reference], [hypothesis], [language]).rate > 0


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("今日はいい天気ですね", "今日はいい電気ですね"),
        ("สวัสดีครับ", "สวัสดีค่ะ"),
        ("ສະບາຍດີ", "ສະບາຍ"),
        ("សួស្តី", "សួស្ដី"),
        ("မင်္ဂလာပါ", "မင်္ဂလာပ"),
    ],
)
def test_each_character_of_an_unspaced_script_is_a_word(reference: str, hypothesis: str) -> None:
    words, characters = word_errors([reference], [hypothesis]), character_errors([reference], [hypothesis])
    assert 0 < words.rate < 1
    assert (words.edits.tolist(), words.lengths.tolist()) == (
        characters.edits.tolist(),
        characters.lengths.tolist(),
    )


def test_korean_words_and_single_chinese_characters_are_counted_as_words() -> None:
    assert word_errors(["안녕 하세요"], ["안녕 세요"]).lengths.tolist() == [2]
    assert word_errors(["the word 猫 means cat"], ["the word 猫 means cat"]).lengths.tolist() == [5]


@pytest.mark.parametrize("seed", range(3))
def test_identities_of_error_rates_over_scripts(seed: int) -> None:
    random = np.random.default_rng(seed)
    pool = ["stop", "Straße", "да", "مُحَمَّد", "नमस्ते", "don't", "안녕", "ελλάς"]
    references = [" ".join(random.choice(pool, random.integers(1, 6))) for _ in range(20)]
    hypotheses = [" ".join(random.choice(pool, random.integers(1, 6))) for _ in range(20)]
    for errors in (word_errors, character_errors):
        forward, backward = errors(references, hypotheses), errors(hypotheses, references)
        assert forward.edits.tolist() == backward.edits.tolist(), "edit distance is symmetric"
        assert (forward.edits >= np.abs(forward.lengths - backward.lengths)).all()
        assert (forward.edits <= np.maximum(forward.lengths, backward.lengths)).all()
        assert errors(references, references).rate == 0
        assert errors(references, [""] * 20).rate == 1
        combined = errors(references[:7], hypotheses[:7]) + errors(references[7:], hypotheses[7:])
        assert combined.rate == forward.rate


@pytest.mark.parametrize(("hypothesis", "mean"), [("a b c d", 0.0), ("x y z w", 1.0), ("x x x x x x", 1.5)])
def test_the_interval_is_not_zero_if_all_utterances_have_the_same_rate(hypothesis: str, mean: float) -> None:
    interval = word_errors(["a b c d"] * 6, [hypothesis] * 6).interval()
    assert interval.mean == mean
    assert interval.low <= mean <= interval.high
    assert interval.high - interval.low > 0.1
    assert "± 0.0" not in str(interval)


def test_without_a_reference_word_there_is_no_rate() -> None:
    interval = word_errors(["👍", "..."], ["👍", "stop"]).interval()
    assert str(interval) == "–"
    assert interval.as_dict() == {"mean": None, "ci95": None, "low": None, "high": None}
