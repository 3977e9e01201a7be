"""Speech of held-out test speakers: the words, and the tasks of adaptation."""

from metavox.adaptation.fine_tune import FineTuneConfig
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.metrics.speakers import SpeakerTask, speaker_tasks
from metavox.params import Adapt, Params
from metavox.recognisers.recogniser import Recogniser
from metavox.text import normalise_text


def test_words(store: Store) -> Store:
    """Words of test speakers, as they are spelled."""
    rows = store.rows
    wanted = (
        (rows["split"] == "test") & rows["unit"].isin(("word", "letter")) & (rows["text_kind"] == "spoken")
    )
    test = store.where(wanted & (rows["frames"] > 0))
    test.rows["text"] = test.rows["text"].map(normalise_text)
    return test


def held_out(store: Store, recogniser: Recogniser, params: Params) -> tuple[Store, list[SpeakerTask]]:
    """The test rows and their speakers' tasks; `evaluate` asks for the same ones.

    Raises UserError when no test speaker has enough transcribed recordings.
    """
    rows = store.rows
    test = store.where((rows["split"] == "test") & (rows["frames"] > 0))
    chosen, trials = params.adapt, params.evaluate
    tasks = speaker_tasks(
        test.rows, recogniser, chosen.shots, trials.utterances, chosen.max_speakers, params.seed
    )
    if not tasks:
        raise UserError(
            f"adapt: no test speaker has {chosen.shots} + 10 recordings of different texts that {recogniser.spec.name} can "
            "write; expected at least one, a smaller adapt.shots, or another base"
        )
    return test, tasks


def fine_tuning(chosen: Adapt, seed: int) -> FineTuneConfig:
    """What params.yaml says of adaptation; what it leaves open is the recogniser's own recipe."""
    return FineTuneConfig(
        learning_rate=chosen.learning_rate, steps=chosen.steps, folds=chosen.folds, seed=seed
    )
