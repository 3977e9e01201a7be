"""Speech of held-out test speakers: words for episodes, and recordings for adaptation."""

from metavox.adaptation.fine_tune import FineTuneConfig
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.metrics.speakers import SpeakerTask, speaker_tasks
from metavox.params import Adapt, Params
from metavox.recognisers.recogniser import Recogniser
from metavox.text import normalise_text


def test_words(store: Store) -> Store:
    """Words and letters of test speakers, with normalised texts."""
    rows = store.rows
    words = (
        (rows["split"] == "test") & rows["unit"].isin(("word", "letter")) & (rows["text_kind"] == "spoken")
    )
    test = store.where(words & (rows["frames"] > 0))
    test.rows["text"] = test.rows["text"].map(normalise_text)
    return test


def held_out_tasks(store: Store, recogniser: Recogniser, params: Params) -> tuple[Store, list[SpeakerTask]]:
    """The test rows and one task per speaker, the same for the stages adapt and evaluate.

    Raises UserError when no test speaker has enough transcribed recordings.
    """
    rows = store.rows
    test = store.where((rows["split"] == "test") & (rows["frames"] > 0))
    config = params.adapt
    tasks = speaker_tasks(
        test.rows, recogniser, config.shots, params.evaluate.utterances, config.max_speakers, params.seed
    )
    if not tasks:
        raise UserError(
            f"adapt: no test speaker has {config.shots} + 10 recordings of different texts that {recogniser.spec.name} can "
            "write; add recordings, lower adapt.shots, or choose another base"
        )
    return test, tasks


def fine_tune_config(config: Adapt, seed: int) -> FineTuneConfig:
    """The section `adapt` of params.yaml for fine-tuning; null values leave the choice to the recogniser's recipe."""
    return FineTuneConfig(
        learning_rate=config.learning_rate, steps=config.steps, folds=config.folds, seed=seed
    )
