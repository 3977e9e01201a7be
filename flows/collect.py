"""Periodic collection: add the recordings in an inbox to the corpus and bring the pipeline up to date with them.

    python -m flows.collect INBOX [--stop-after validate] [-- --layout folders --speaker me --language en]

The inbox is only read. Recordings that the corpus already holds are recognised by their content, so they may stay in
the inbox.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact

from flows.command import add_shared_options, run_command, start_prefect
from flows.lock import only_writer
from flows.process import run
from flows.project import read_stages, up_to
from flows.tasks import WAIT_S, run_stages
from metavox.dataset.manifest import read_manifest, resolve, write_manifest
from metavox.errors import UserError

FOLDER = Path(".metavox/collect")
ADD_TIMEOUT_S = 4 * 3600.0
DRIFTED = 1


@flow(name="collect", validate_parameters=True)
def collect(
    inbox: str,
    options: list[str] | None = None,
    project: str = ".",
    wait_s: float = WAIT_S,
    stop_after: str | None = None,
) -> dict[str, Any]:
    """Add `inbox` to the corpus; if it holds new recordings, check them for drift and bring the stages up to date.

    `options` are those of `metavox corpus add`. `stop_after` names the last stage to run; an empty string runs none, and
    by default the whole pipeline runs. Returns the numbers of added, known and refused recordings (`take`, `have`,
    `refuse`), whether the new ones differ from the data that the current model learned from, and each stage's outcome.
    """
    folder, logger = Path(project).resolve(), get_run_logger()
    with only_writer(folder, f"collect {inbox}", wait_s, logger.warning) as lock:
        report = add(folder, Path(inbox).resolve(), options or [], lock)
        counts = dict(report["counts"])
        drifted = check_drift(folder, report, lock) if counts["take"] else None
    if not counts["take"]:
        # The stages run all the same: an earlier run may have been killed after it added the recordings.
        logger.info("nothing new in %s", inbox)
    if stop_after == "":
        return {**counts, "drifted": drifted, "stages": {}}
    stages = read_stages(folder)
    outcomes = run_stages(folder, up_to(stages, stop_after) if stop_after else stages, wait_s)
    return {**counts, "drifted": drifted, "stages": outcomes}


@task(persist_result=False)
def add(project: Path, inbox: Path, options: list[str], lock: int) -> dict[str, Any]:
    """Run `metavox corpus add` and return its report; refused recordings also become an artifact of the run.

    Raises UserError when nothing could be added because of an error.
    """
    file = project / FOLDER / "added.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    status, lines = metavox(project, lock, "corpus", "add", str(inbox), *options, "--json", str(file))
    report: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    refused = [
        {"path": row["path"], "reasons": "; ".join(row["reasons"])} for row in report.get("refuse", ())
    ]
    if refused:
        create_table_artifact(refused[:1000], key="refused", description=f"Refused from {inbox}")
    if status and (
        not report or report["faults"]
    ):  # refused recordings alone, which stay in the inbox, are no error
        messages = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
        raise UserError(messages[-1] if messages else f"corpus add ended with exit status {status}")
    if refused:
        get_run_logger().warning("%d recordings were refused; the first: %s", len(refused), refused[0])
    return report


@task(persist_result=False)
def check_drift(project: Path, report: dict[str, Any], lock: int) -> bool | None:
    """Whether the added recordings differ from the data that the current model learned from; None if unknown."""
    manifest = project / "data/manifest.csv"
    rows = read_manifest(manifest)
    rows = rows[rows["sha256"].isin({row["sha256"] for row in report["take"]})]
    new = project / FOLDER / "new.csv"
    write_manifest(rows.assign(path=[str(resolve(manifest, path)) for path in rows["path"]]), new)
    status, lines = metavox(project, lock, "corpus", "drift", str(new))
    if status not in (0, DRIFTED):
        get_run_logger().warning("drift: %s", lines[-1] if lines else f"exit status {status}")
        return None
    if status == DRIFTED:
        create_table_artifact(
            [{"drift": line} for line in lines],
            key="drift",
            description="How the new recordings differ from the training data",
        )
    return status == DRIFTED


def metavox(project: Path, lock: int, *arguments: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "metavox", *arguments]
    return run(command, project, get_run_logger().info, ADD_TIMEOUT_S, keep_open=[lock])


def main() -> None:
    """`python -m flows.collect INBOX`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.collect",
        description="Add new recordings to the corpus and bring the pipeline up to date with them.",
    )
    parser.add_argument("inbox", type=Path, help="a folder or archive that `metavox corpus add` can read")
    parser.add_argument(
        "--stop-after", metavar="NAME", help="the last stage to run; '' runs none (default: all run)"
    )
    add_shared_options(parser)
    own, options = split_at_dashes(sys.argv[1:])
    parser.epilog = "Everything after -- is an option of `metavox corpus add`."
    arguments = parser.parse_args(own)
    run_command(lambda: _run(arguments, options))


def split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _run(arguments: argparse.Namespace, options: list[str]) -> None:
    project = arguments.project.resolve()
    if arguments.stop_after:
        up_to(read_stages(project), arguments.stop_after)
    start_prefect(project)
    result = collect(
        str(arguments.inbox.resolve()),
        options,
        str(project),
        WAIT_S if arguments.wait is None else arguments.wait,
        arguments.stop_after,
    )
    summary = [f"{result['take']} added, {result['have']} known, {result['refuse']} refused"]
    summary += ["the new recordings differ from the training data"] * bool(result["drifted"])
    summary += [f"{name} {outcome}" for name, outcome in result["stages"].items()]
    print("metavox: " + "; ".join(summary), flush=True)


if __name__ == "__main__":
    main()
