"""Adapt to many voices: a map over their recordings, on the threads of this machine or on a Dask cluster.

    python -m flows.adapt_many MANIFEST --out FOLDER [--by speaker] [--dask ADDRESS|local] [-- --base whisper-tiny.en]

Voices are mapped in chunks, because a process loads the base once for its chunk. A delta that exists for the same recordings
is kept, so a run that was killed continues. On a cluster, all machines must see the manifest, its recordings and FOLDER.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.futures import wait
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import journal
from flows.collect import split_at_dashes
from flows.command import run_command, start_prefect
from flows.process import run
from flows.repro import StageFailed
from flows.tasks import run_name
from metavox.dataset.manifest import resolve
from metavox.errors import UserError

FOLDER = Path(".metavox/adapt_many")
CHUNK = 20
LOCAL = "local"
FAILED = 1  # exit status of `metavox adapt-each` when a voice could not be learned


@flow(name="adapt-many", flow_run_name=run_name("adapt many"), validate_parameters=True)
def adapt_many(
    manifest: str,
    out: str,
    by: str = "speaker",
    options: list[str] | None = None,
    chunk: int = CHUNK,
    project: str = ".",
) -> dict[str, int]:
    """Learn a delta for each voice of a manifest, in parallel.

    Args:
        manifest: Labelled recordings, as `metavox adapt-each` takes them.
        out: The folder of the deltas.
        by: The column whose values get a delta each.
        options: Options of `metavox adapt-each`, such as --base.
        chunk: How many voices a task adapts to.
        project: The folder for intermediate files.

    Returns how many voices were learned, kept and failed. Raises StageFailed if a task failed for another reason.
    """
    folder = Path(project).resolve()
    with journal.flow_run(folder, "adapt-many"):
        chunks = write_chunks(folder, Path(manifest).resolve(), by, chunk)
        get_run_logger().info("%d chunks of at most %d voices", len(chunks), chunk)
        arguments = ["--out", str(Path(out).resolve()), "--by", by, *(options or [])]
        futures = adapt_chunk.map(chunks, arguments=[arguments] * len(chunks))
        wait(futures)
        reports = [future.result(raise_on_failure=False) for future in futures]
        if failed := [str(report) for report in reports if isinstance(report, BaseException)]:
            raise StageFailed(f"{len(failed)} of {len(chunks)} chunks failed; the first: {failed[0]}")
        lines = [line for report in reports for line in report]
    if problems := [line for line in lines if line["outcome"] == "failed"]:
        create_table_artifact(
            problems[:1000], key="failed-voices", description="Voices that were not learned"
        )
        get_run_logger().warning("%d voices failed; the first: %s", len(problems), problems[0])
    return {what: sum(line["outcome"] == what for line in lines) for what in ("learned", "kept", "failed")}


def write_chunks(project: Path, manifest: Path, by: str, size: int) -> list[Path]:
    """Tables of the recordings of at most `size` voices each. Raises UserError if the manifest cannot be used."""
    from metavox.cli.adapt_each import grouped
    from metavox.cli.manifests import labelled

    rows = labelled(manifest)
    groups = list(grouped(rows, by, manifest).values())
    folder = project / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, start in enumerate(range(0, len(groups), size)):
        table = pd.concat(groups[start : start + size])
        table = table.assign(path=[str(resolve(manifest, str(path))) for path in table["path"]])
        paths.append(folder / f"chunk-{number}.csv")
        table.to_csv(paths[-1], index=False)
    return paths


@task(retries=1, retry_delay_seconds=5, persist_result=False, task_run_name="{chunk.stem}")
def adapt_chunk(chunk: Path, arguments: list[str]) -> list[dict[str, Any]]:
    """Adapt to the voices of a chunk in a process of its own; returns a line about each.

    Raises StageFailed if the process fails as a whole, UserError if its input is at fault.
    """
    report = chunk.with_suffix(".json")
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "metavox", "adapt-each", str(chunk), *arguments, "--json", str(report)]
    status, lines = run(command, Path.cwd(), get_run_logger().info)
    if status not in (0, FAILED) or not report.is_file():
        own = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
        raise StageFailed(own[-1] if own else f"adapt-each ended with exit status {status}")
    found: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
    return found


def task_runner(workers: int, dask: str = "") -> TaskRunner[Any]:
    """Threads that each wait for a process, or Dask: its scheduler's address, or `local` for a cluster of processes here.

    Raises UserError if prefect-dask is not installed.
    """
    if not dask:
        return ThreadPoolTaskRunner(max_workers=workers)
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise UserError("--dask: prefect-dask is not installed; `pip install metavox[dask]`") from error
    if dask == LOCAL:
        runner: TaskRunner[Any] = DaskTaskRunner(
            cluster_kwargs={"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        )
        return runner
    runner = DaskTaskRunner(address=dask)
    return runner


def main() -> None:
    """`python -m flows.adapt_many MANIFEST --out FOLDER`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.adapt_many", description="Learn a delta for each of many voices."
    )
    parser.add_argument("manifest", type=Path, help="labelled recordings of all voices")
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="the folder of the deltas")
    parser.add_argument("--by", metavar="COLUMN", default="speaker", help="whose values get a delta each")
    parser.add_argument(
        "--workers", metavar="N", type=int, default=2, help="how many chunks at a time (default: 2)"
    )
    parser.add_argument(
        "--chunk", metavar="N", type=int, default=CHUNK, help=f"voices a task (default: {CHUNK})"
    )
    parser.add_argument("--dask", metavar="ADDRESS", default="", help="a Dask scheduler, or `local`")
    parser.epilog = "Everything after -- is an option of `metavox adapt-each`."
    parser.add_argument(
        "--project", metavar="FOLDER", type=Path, default=Path(), help="for intermediate files"
    )
    own, options = split_at_dashes(sys.argv[1:])
    arguments = parser.parse_args(own)
    run_command(lambda: _run(arguments, options))


def _run(arguments: argparse.Namespace, options: list[str]) -> None:
    project = arguments.project.resolve()
    mapped = adapt_many.with_options(task_runner=task_runner(arguments.workers, arguments.dask))
    start_prefect(project)
    counts = mapped(
        str(arguments.manifest), str(arguments.out), arguments.by, options, arguments.chunk, str(project)
    )
    print("metavox: " + ", ".join(f"{count} {what}" for what, count in counts.items()), flush=True)


if __name__ == "__main__":
    main()
