"""Tasks of held-out speakers: support and query never share a text."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metavox.dataset.store import Store
from metavox.metrics.speakers import SpeakerTask, evaluate_speaker, speaker_tasks
from metavox.recognisers.conformer.kind import ConformerRecogniser
from metavox.recognisers.conformer.network import Network
from metavox.text import normalise_text

ALPHABET = " abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def writer(make_model: Callable[..., Network]) -> ConformerRecogniser:
    return ConformerRecogniser(make_model(alphabet=ALPHABET), "small", "0" * 64)


def rows() -> pd.DataFrame:
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefgh"), 4)) for _ in range(40)]
    table = [
        {"text": f"{words[i]} {words[-i - 1]}", "speaker": speaker, "duration_s": seconds}
        for speaker, count, seconds in (
            ("small", 12, 9.0),
            ("middle", 20, 1.0),
            ("big", 25, 2.0),
            ("tiny", 3, 99.0),
        )
        for i in range(count)
    ]
    # One text occurs three times, once in capitals.
    table += [{**table[20], "text": str(table[20]["text"]).upper()}, {**table[20]}]
    frame = pd.DataFrame(table).assign(language="en", text_kind="spoken")
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


def test_support_and_query_have_one_speaker_and_share_no_text(writer: ConformerRecogniser) -> None:
    table = rows()
    tasks = speaker_tasks(table, writer, shots=5, queries=8, max_speakers=9, seed=0)
    assert [task.speaker for task in tasks] == ["big", "middle"]
    for task in tasks:
        assert (len(task.support), len(task.query)) == (5, 8)
        used = table.loc[np.concatenate([task.support, task.query])]
        assert set(used["speaker"]) == {task.speaker}
        assert used["text"].map(normalise_text).is_unique


def test_speakers_with_the_most_speech_come_first_and_the_seed_determines_the_clips(
    writer: ConformerRecogniser,
) -> None:
    table = rows()
    first, again, other = (speaker_tasks(table, writer, 2, 8, 1, seed) for seed in (1, 1, 2))
    assert [task.speaker for task in first] == ["small"]
    assert first[0].support.tolist() == again[0].support.tolist()
    assert first[0].support.tolist() != other[0].support.tolist()


def test_texts_that_are_unwritable_or_not_spoken_are_left_out(writer: ConformerRecogniser) -> None:
    table = rows()
    table.loc[table["speaker"] == "big", "text"] += " я"
    table.loc[table["speaker"] == "middle", "text_kind"] = "concept"
    assert speaker_tasks(table, writer, 5, 8, 9, 0) == []


def test_a_language_that_the_recogniser_lacks_gives_no_task(writer: ConformerRecogniser) -> None:
    english = copy.copy(writer)
    english.spec = replace(writer.spec, languages=("en",))
    table = rows()
    assert len(speaker_tasks(table, english, 5, 8, 9, 0)) == 2
    assert speaker_tasks(table.assign(language="it"), english, 5, 8, 9, 0) == []


def test_transcripts_are_scored_against_the_texts(
    make_store: Callable[..., Store], make_model: Callable[..., Network]
) -> None:
    store, recogniser = make_store(), ConformerRecogniser(make_model(), "small", "0" * 64)
    task = SpeakerTask("speaker-0", "xx", np.array([0]), np.array([3, 50]))
    audio = [store[3], store[50]]
    result = evaluate_speaker(task, store.rows, audio, {"before": recogniser, "after": recogniser})
    references = [store.rows.at[3, "text"], store.rows.at[50, "text"]]
    assert result.reference == references[0]
    assert result.transcripts["before"] == recogniser.transcribe(audio)[0].text
    assert result.errors["wer", "before"].lengths.tolist() == [1, 2]
    assert result.errors["cer", "after"].lengths.tolist() == [len(text) for text in references]
