"""adapt: for each held-out voice, a delta learned from a few transcribed recordings of it."""

from pathlib import Path

import pandas as pd
from rich.progress import track

from metavox.corpus.store import Store
from metavox.errors import UserError
from metavox.evaluate.voices import VoiceTask, voice_tasks
from metavox.files import write_json, written_aside
from metavox.learn.adapt import AdaptConfig, adapt_utterances
from metavox.params import Params
from metavox.recognisers.conformer.artifact import digest, load_model
from metavox.recognisers.conformer.delta import load_delta, save_delta
from metavox.recognisers.conformer.network import Network
from metavox.stages.common import CHECKPOINTS, clean_store, run_key, write_metrics, write_plot


def held_out(store: Store, model: Network, params: Params) -> tuple[Store, list[VoiceTask]]:
    """The test rows and their voices' tasks; `evaluate` asks for the same ones.

    Raises UserError when no test voice has enough transcribed recordings.
    """
    rows = store.rows
    test = store.where((rows["split"] == "test") & (rows["frames"] > 0))
    chosen, judged = params.adapt, params.evaluate
    tasks = voice_tasks(
        test.rows, model.config.alphabet, chosen.shots, judged.utterances, chosen.max_voices, params.seed
    )
    if not tasks:
        raise UserError(
            f"adapt: no test voice has {chosen.shots} + 10 recordings of different texts; "
            "expected at least one, or a smaller adapt.shots"
        )
    return test, tasks


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated,recogniser} -> artifacts/deltas/VOICE.

    Voices that an interrupted run has done are not done again.
    """
    chosen = params.adapt
    source = root / "artifacts/recogniser"
    model, base = load_model(source), digest(source)
    test, tasks = held_out(clean_store(root), model, params)
    inputs = ("artifacts/validated/manifest.parquet", "artifacts/recogniser/model.safetensors")
    done = root / CHECKPOINTS / f"adapt-{run_key(params, ('adapt', 'evaluate'), root, inputs)[:16]}"
    config = AdaptConfig(chosen.steps, chosen.learning_rate, seed=params.seed)
    for task in track(tasks, "adapt", transient=True):
        if not (done / task.voice / "history.csv").is_file():
            _adapt(model, base, test, task, config, done / task.voice)
            print(f"adapt: {task.voice}, {len(task.support)} recordings, {config.steps} steps", flush=True)
    deltas = {task.voice: load_delta(done / task.voice) for task in tasks}
    with written_aside(root / "artifacts/deltas") as folder:
        folder.mkdir()
        for voice, delta in deltas.items():
            save_delta(delta, folder / voice)
        write_json(
            folder / "support.json", {t.voice: test.rows.loc[t.support, "path"].tolist() for t in tasks}
        )
    write_plot(root, "adapt", pd.concat([pd.read_csv(done / t.voice / "history.csv") for t in tasks]))
    write_metrics(
        root, "adapt",
        {"voices": len(tasks), "shots": chosen.shots, "delta_bytes": max(d.bytes for d in deltas.values()) // 2},
    )  # fmt: skip


def _adapt(
    model: Network, base: str, test: Store, task: VoiceTask, config: AdaptConfig, folder: Path
) -> None:
    history: list[dict[str, object]] = []

    def record(step: int, loss: float) -> None:
        history.append({"voice": task.voice, "step": step, "loss": loss})

    mels = [test[int(row)] for row in task.support]
    delta = adapt_utterances(model, base, mels, test.rows.loc[task.support, "text"].tolist(), config, record)
    with written_aside(folder) as aside:
        save_delta(delta, aside)
        pd.DataFrame(history).to_csv(aside / "history.csv", index=False)
