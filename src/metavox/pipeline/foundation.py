"""What the metatrain stage trains for a foundation base: a short-context adapter and a meta-learned start for adapters.

The conformer, which distinguishes words, is trained in any case. Prepare, validate and augment treat every base alike;
pretrain concerns the conformer alone; adapt, evaluate and package use the base that this module writes.
"""

import copy
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from metavox.adaptation.estimate import Estimate, estimate_errors
from metavox.adaptation.fine_tune import FineTuneConfig, Recordings, fine_tune
from metavox.adaptation.meta_start import Start, learn_start
from metavox.adaptation.start_learners import StartConfig
from metavox.dataset.store import Store
from metavox.errors import UserError
from metavox.params import Params
from metavox.pipeline.artifacts import CHECKPOINTS, base_name, recordings, run_key
from metavox.recognisers import registry
from metavox.recognisers.bases.find import Base, find_base
from metavox.recognisers.bases.store import write_source
from metavox.recognisers.delta import Delta, save_delta
from metavox.recognisers.recogniser import Recogniser
from metavox.recognisers.whisper import load_network, read_rules
from metavox.threads import limited
from metavox.training.short_context import ShortContextConfig, clips, read_targets, train, write_targets

SECTIONS = ("foundation",)
INPUTS = ("artifacts/validated/manifest.parquet",)
MAX_SENTENCE_S = 12.0
DEV_SPEAKERS, DEV_QUERIES, MIN_SENTENCES = 3, 15, 10
Figures = dict[str, object]


def add_foundation(params: Params, root: Path, store: Store, recogniser_folder: Path) -> Figures:
    """Copy and train the base `params.base` in `recogniser_folder`/base; returns figures for the stage's metrics.

    Raises UserError when the base is unknown, or cannot be trained as `params.foundation` asks.
    """
    if params.base == "conformer":
        return {"base": "conformer"}
    base, folder = find_base(params.base), recogniser_folder / registry.BASE
    with limited("foundation model"):
        copy_base(base, folder)
        figures: Figures = {"base": base.name}
        if params.foundation.short_context_steps:
            _train_short_context(params, root, store, folder)
        if params.foundation.start != "none":
            figures |= _train_start(params, root, store, folder)
        figures["base_digest"] = registry.digest(folder)
    print(
        f"metatrain: {base.name} transcribes"
        + ("" if params.foundation.short_context_steps else ", with its own short-context adapter, if any")
        + (
            ""
            if params.foundation.start != "none"
            else "; adapters start from zero (foundation.start = none)"
        ),
        flush=True,
    )
    return figures


def copy_base(base: Base, folder: Path) -> None:
    """All files of a base but its word embedder, which the pipeline trains itself, and where it came from."""
    shutil.copytree(base.folder, folder, ignore=shutil.ignore_patterns(registry.EMBEDDER))
    write_source(folder, replace(base.source, name=base.name))


def _train_short_context(params: Params, root: Path, store: Store, folder: Path) -> None:
    """Train a short-context adapter on the base's own transcripts with its full window, and save it beside its weights.

    Raises UserError for a base other than Whisper, since no other kind pads its input, and when the base transcribes
    none of the clips.
    """
    if registry.kind_of(folder) != "whisper":
        raise UserError(
            f"foundation.short_context_steps: {base_name(folder)} does not pad clips, so it has no short context to learn; set it to 0"
        )
    chosen = params.foundation
    shutil.rmtree(folder / registry.SHORT_CONTEXT, ignore_errors=True)
    digest, checkpoints = registry.own_digest(folder), root / CHECKPOINTS
    config = ShortContextConfig(
        lessons=chosen.short_context_lessons, steps=chosen.short_context_steps, seed=params.seed
    )
    rows = _sentences(store, "train", registry.load(folder)).rows
    network, rules = load_network(folder), read_rules(folder)
    key = hashlib.sha256(f"{digest} {config} {sorted(rows['path'])}".encode()).hexdigest()[:16]
    files = write_targets(
        network, rules, clips(rows, root / "data", config), checkpoints / f"short-context-lessons-{key}"
    )
    if not (lessons := read_targets(files)):
        raise UserError(
            f"foundation: {base_name(folder)} gave no complete transcript of any of {config.lessons} clips, so there is "
            "nothing to learn from; choose another base, or set foundation.short_context_steps to 0"
        )
    delta, _ = train(network, digest, lessons, config, checkpoints)
    save_delta(delta, folder / registry.SHORT_CONTEXT)


def _train_start(params: Params, root: Path, store: Store, folder: Path) -> Figures:
    """Learn a start on training speakers; it is saved only if it lowers the word errors of development speakers."""
    chosen, base = params.foundation, registry.load(folder)
    config = StartConfig(
        "joint" if chosen.start == "none" else chosen.start,
        chosen.start_steps,
        chosen.start_shots,
        chosen.start_inner_steps,
        chosen.start_learning_rate,
        seed=params.seed,
    )
    key = run_key(__name__, params, SECTIONS, root, INPUTS) + base.spec.digest
    start = learn_start(base, list(_speakers(store, "train", base, root)), config, root / CHECKPOINTS, key)
    speakers = list(_speakers(store, "dev", base, root))[:DEV_SPEAKERS]
    without, with_start = (_estimate(base, speakers, params, one) for one in (None, start))
    gains = with_start.rank("word_errors") < without.rank("word_errors")
    if gains:
        about = {"made_by": config.learner, registry.RATES: dict(start.rates)}
        save_delta(Delta(base.spec.digest, lora=start.lora, about=about), folder / registry.START)
    return {
        "start": config.learner,
        "start_chosen": gains,
        "dev_speakers": len(speakers),
        "dev_wer_from_zero": without.rate("words"),
        "dev_wer_from_start": with_start.rate("words"),
    }


def _estimate(base: Recogniser, speakers: list[Recordings], params: Params, start: Start | None) -> Estimate:
    """Errors on other recordings of each speaker after adaptation to a few."""
    shots, parts = params.foundation.start_shots, []
    base = copy.copy(base)
    base.start, base.start_rates = (start.lora, start.rates) if start else (None, {})
    for speaker in speakers:
        support, query = (
            speaker.subset(range(shots)),
            speaker.subset(range(shots, min(len(speaker), shots + DEV_QUERIES))),
        )
        delta = fine_tune(base, support, FineTuneConfig(seed=params.seed))
        parts.append(estimate_errors(base.using([delta]), query))
    return Estimate.pooled(parts)


def _sentences(store: Store, split: str, base: Recogniser) -> Store:
    rows = store.rows
    languages = base.spec.languages
    usable = (rows["split"] == split) & (rows["unit"] == "sentence") & ~rows["synthetic"]
    usable &= (rows["text_kind"] == "spoken") & (rows["duration_s"] <= MAX_SENTENCE_S)
    return store.where(usable & rows["language"].isin(languages) if languages else usable)


def _speakers(store: Store, split: str, base: Recogniser, root: Path) -> Iterator[Recordings]:
    """The sentences of each speaker of a split who has enough of them, those with most speech first."""
    chosen = _sentences(store, split, base)
    by_speech = chosen.rows.groupby("speaker")["duration_s"].sum().sort_values(ascending=False, kind="stable")
    for speaker in by_speech.index:
        rows = chosen.rows.index[chosen.rows["speaker"] == speaker].to_numpy()
        if len(rows) >= MIN_SENTENCES:
            audio = recordings(chosen, rows, base, root)
            yield Recordings(audio, chosen.rows.loc[rows, "text"].tolist())
