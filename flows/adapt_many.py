"""Adapt to many voices: a map over their recordings, on the threads of this machine or on a Dask cluster.

    python -m flows.adapt_many MANIFEST --out FOLDER [--by speaker] [--dask ADDRESS|local] [-- --base whisper-tiny.en]

Voices are mapped in parts, because a process loads the base once for its part. A delta that exists for the same recordings
is kept, so a run that was killed continues. On a cluster, all machines must see the manifest, its recordings and FOLDER.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task, unmapped
from prefect.artifacts import create_table_artifact
from prefect.futures import wait
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import journal
from flows.collect import split_at_dashes
from flows.command import run_command, start_prefect
from flows.process import run
from flows.repro import StageFailed
from flows.tasks import run_name
from metavox.errors import UserError

FOLDER = Path(".metavox/adapt_many")
PARTS = 8
LOCAL = "local"
FAILED = 1  # exit status of `metavox adapt-each` when a voice could not be learned


@flow(name="adapt-many", flow_run_name=run_name("adapt many"), validate_parameters=True)
def adapt_many(
    manifest: str,
    out: str,
    by: str = "speaker",
    options: list[str] | None = None,
    parts: int = PARTS,
    project: str = ".",
) -> dict[str, int]:
    """Learn a delta for each voice of a manifest, in parallel.

    Args:
        manifest: Labelled recordings, as `metavox adapt-each` takes them.
        out: The folder of the deltas.
        by: The column whose values get a delta each.
        options: Options of `metavox adapt-each`, such as --base.
        parts: Into how many tasks the voices are shared out.
        project: The folder for intermediate files.

    Returns how many voices were learned, kept and failed. Raises StageFailed if a task failed for another reason.
    """
    folder = Path(project).resolve()
    with journal.flow_run(folder, "adapt-many"):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        command = ["adapt-each", str(Path(manifest).resolve()), "--out", str(Path(out).resolve()), "--by", by]
        reports = [folder / FOLDER / f"part-{number}-of-{parts}.json" for number in range(1, parts + 1)]
        futures = adapt_part.map(reports, unmapped([*command, *(options or [])]))
        wait(futures)
        results = [future.result(raise_on_failure=False) for future in futures]
        if failed := [result for result in results if isinstance(result, BaseException)]:
            raise StageFailed(f"{len(failed)} of {parts} parts failed; the first: {failed[0]}")
        lines = [line for result in results for line in result]
    if problems := [line for line in lines if line["outcome"] == "failed"]:
        create_table_artifact(
            problems[:1000], key="failed-voices", description="Voices that were not learned"
        )
        get_run_logger().warning("%d voices failed; the first: %s", len(problems), problems[0])
    return {what: sum(line["outcome"] == what for line in lines) for what in ("learned", "kept", "failed")}


@task(retries=1, retry_delay_seconds=5, persist_result=False, task_run_name="{report.stem}")
def adapt_part(report: Path, command: list[str]) -> list[dict[str, Any]]:
    """Adapt to a part of the voices, which the name of `report` says, in a process of its own; a line about each voice.

    Raises StageFailed if the process fails as a whole.
    """
    report.unlink(missing_ok=True)
    _, number, _, parts = report.stem.split("-")
    own = [sys.executable, "-m", "metavox", *command, "--part", f"{number}/{parts}", "--json", str(report)]
    status, lines = run(own, Path.cwd(), get_run_logger().info)
    if status not in (0, FAILED) or not report.is_file():
        said = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
        raise StageFailed(said[-1] if said else f"adapt-each ended with exit status {status}")
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
        "--workers", metavar="N", type=int, default=2, help="how many parts at a time (default: 2)"
    )
    parser.add_argument(
        "--parts", metavar="N", type=int, default=PARTS, help=f"into how many tasks (default: {PARTS})"
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
        str(arguments.manifest), str(arguments.out), arguments.by, options, arguments.parts, str(project)
    )
    print("metavox: " + ", ".join(f"{count} {what}" for what, count in counts.items()), flush=True)


if __name__ == "__main__":
    main()
