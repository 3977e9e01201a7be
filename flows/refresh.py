"""Build the corpus again from its sources, and bring the pipeline up to date if it has changed.

    python -m flows.refresh [--profile demo]

A corpus that recordings were added to is not built again, because they would be lost; the flow says so and stops.
"""

import argparse
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task

from flows.collect import metavox
from flows.command import add_shared_options, run_command, start_prefect
from flows.lock import only_writer
from flows.project import read_stages
from flows.tasks import WAIT_S, run_name, run_stages
from metavox.errors import UserError
from metavox.promotion.versions import digest_of, dvc

CORPUS = "data.dvc"


@flow(name="refresh", flow_run_name=run_name("refresh"), validate_parameters=True)
def refresh(profile: str = "demo", project: str = ".", wait_s: float = WAIT_S) -> dict[str, Any]:
    """Build the corpus by `profile`, pin it in data.dvc, and run the pipeline on what has changed.

    Args:
        profile: demo, full, tiny, or the path of a profile.
        project: The checkout.
        wait_s: How long to wait for another flow in this checkout, in seconds.

    Returns whether the corpus changed, and each stage's outcome.
    """
    folder, logger = Path(project).resolve(), get_run_logger()
    with only_writer(folder, f"refresh {profile}", wait_s, logger.warning) as lock:
        before = digest_of(folder / CORPUS) if (folder / CORPUS).is_file() else ""
        build(folder, profile, lock)
        dvc(folder, "add", "--quiet", "data")
        now = digest_of(folder / CORPUS)
    logger.info("the corpus is %s", "as before" if now == before else f"new: {now}")
    return {"changed": now != before, "stages": run_stages(folder, read_stages(folder), wait_s)}


@task(persist_result=False)
def build(project: Path, profile: str, lock: int) -> None:
    """Run `metavox corpus build`. Raises UserError with its own line if it fails; data/ is then as before."""
    status, lines = metavox(project, lock, "corpus", "build", "--profile", profile)
    if status:
        own = [line.removeprefix("metavox: ") for line in lines if line.startswith("metavox: ")]
        raise UserError(own[-1] if own else f"corpus build ended with exit status {status}")


def main() -> None:
    """`python -m flows.refresh`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.refresh", description="Build the corpus again and run what depends on it."
    )
    parser.add_argument("--profile", default="demo", help="demo, full, tiny, or the path of a profile")
    add_shared_options(parser)
    arguments = parser.parse_args()
    run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    project = arguments.project.resolve()
    read_stages(project)
    start_prefect(project)
    result = refresh(arguments.profile, str(project), WAIT_S if arguments.wait is None else arguments.wait)
    changed = "the corpus has changed" if result["changed"] else "the corpus is as before"
    print("metavox: " + "; ".join([changed, *(f"{k} {v}" for k, v in result["stages"].items())]), flush=True)


if __name__ == "__main__":
    main()
