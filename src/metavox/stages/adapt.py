"""adapt: learn a delta for each held-out speaker from a few of the speaker's transcribed recordings."""

from pathlib import Path

import pandas as pd

from metavox.dataset.store import Store
from metavox.files import write_json, written_aside
from metavox.metrics.speakers import SpeakerTask
from metavox.params import Params
from metavox.pipeline.artifacts import (
    CHECKPOINTS,
    clean_store,
    recordings,
    run_key,
    trained_session,
    write_metrics,
    write_plot,
)
from metavox.pipeline.held_out import fine_tune_config, held_out_tasks
from metavox.progress import track
from metavox.recognisers.delta import load_delta, save_delta
from metavox.recognisers.registry import BASE
from metavox.session import Session
from metavox.teaching import TeachConfig, TeachingSet, teach
from metavox.threads import limit

INPUTS = ("artifacts/validated/manifest.parquet", "artifacts/recogniser/model.safetensors")


def run(params: Params, root: Path) -> None:
    """artifacts/{prepared,validated,recogniser} -> artifacts/deltas/SPEAKER.

    A run that was interrupted resumes with the next speaker. Raises UserError when no test speaker has enough recordings.
    """
    session = trained_session(root)
    limit("small network" if session.recogniser.spec.kind == "conformer" else "foundation model")
    test, tasks = held_out_tasks(clean_store(root), session.recogniser, params)
    base = root / "artifacts/recogniser" / BASE / "source.json"
    inputs = (*INPUTS, str(base.relative_to(root))) if base.is_file() else INPUTS
    key = run_key(__name__, params, ("adapt", "evaluate.utterances"), root, inputs)
    done = root / CHECKPOINTS / f"adapt-{key[:16]}"
    config = TeachConfig("utterances", utterances=fine_tune_config(params.adapt, params.seed), guards=None)
    for task in track(tasks, "adapt", unit="speakers"):
        if not (done / task.speaker / "history.csv").is_file():
            _adapt(session, test, task, config, root, done / task.speaker)
    deltas = {task.speaker: load_delta(done / task.speaker) for task in tasks}
    with written_aside(root / "artifacts/deltas") as folder:
        folder.mkdir()
        for speaker, delta in deltas.items():
            save_delta(delta, folder / speaker)
        write_json(
            folder / "support.json", {t.speaker: test.rows.loc[t.support, "path"].tolist() for t in tasks}
        )
    write_plot(root, "adapt", pd.concat([pd.read_csv(done / t.speaker / "history.csv") for t in tasks]))
    write_metrics(
        root,
        "adapt",
        {
            "base": session.recogniser.spec.name,
            "speakers": len(tasks),
            "shots": params.adapt.shots,
            "delta_bytes": max(delta.bytes for delta in deltas.values()) // 2,
        },
    )


def _adapt(
    session: Session, test: Store, task: SpeakerTask, config: TeachConfig, root: Path, folder: Path
) -> None:
    history: list[dict[str, object]] = []

    def record(phase: str, step: int, _: int, loss: float) -> None:
        if phase == "adapting":
            history.append({"speaker": task.speaker, "step": step, "loss": loss})

    audio = recordings(test, task.support, session.recogniser, root)
    support = TeachingSet(audio, test.rows.loc[task.support, "text"].tolist())
    taught = teach(session, support, config, record=record)
    for line in (*taught.warnings, *taught.expectations):
        print(f"adapt: {task.speaker}: {line}", flush=True)
    with written_aside(folder) as aside:
        save_delta(taught.delta, aside)
        pd.DataFrame(history, columns=["speaker", "step", "loss"]).to_csv(aside / "history.csv", index=False)
    print(f"adapt: {task.speaker}, {len(task.support)} recordings, {len(history)} steps", flush=True)
