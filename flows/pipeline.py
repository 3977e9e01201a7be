"""The pipeline: run every stage of dvc.yaml through DVC, with retries, time limits and gates.

    python -m flows.pipeline [--stage NAME] [--wait SECONDS]

No Prefect server is needed: without PREFECT_API_URL, a temporary one runs with the pipeline.
"""

import argparse
from pathlib import Path

from prefect import flow

from flows.command import add_shared_options, run_command, start_prefect
from flows.project import read_stages, up_to
from flows.tasks import WAIT_S, WORKER_WAIT_S, Workers, run_name, run_stages


@flow(name="pipeline", flow_run_name=run_name("pipeline"), validate_parameters=True)
def pipeline(
    project: str = ".", wait_s: float = WAIT_S, workers: bool = False, worker_wait_s: float = WORKER_WAIT_S
) -> dict[str, str]:
    """Bring every stage up to date.

    Args:
        project: The checkout.
        wait_s: How long to wait for another pipeline in this checkout, in seconds.
        workers: Run stages of other pools on those pools' workers.
        worker_wait_s: How long to wait for such a worker to come online, in seconds.
    """
    folder = Path(project).resolve()
    return run_stages(folder, read_stages(folder), wait_s, Workers(worker_wait_s) if workers else None)


def main() -> None:
    """`python -m flows.pipeline`."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Bring stages up to date.")
    parser.add_argument("--stage", metavar="NAME", help="run only this stage and those that it needs")
    add_shared_options(parser)
    parser.add_argument("--workers", action="store_true", help="run stages of other pools on their workers")
    parser.add_argument(
        "--worker-wait",
        metavar="SECONDS",
        type=float,
        default=WORKER_WAIT_S,
        help="how long to wait for a worker",
    )
    arguments = parser.parse_args()
    run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    project = arguments.project.resolve()
    stages = read_stages(project)
    if arguments.stage:
        up_to(stages, arguments.stage)
    start_prefect(project)
    wait_s = WAIT_S if arguments.wait is None else arguments.wait
    if arguments.stage:
        from flows.stages import stage_flow  # importing it builds the flows of all stages

        outcomes = stage_flow(arguments.stage)(project=str(project), wait_s=wait_s)
    else:
        outcomes = pipeline(
            project=str(project),
            wait_s=wait_s,
            workers=arguments.workers,
            worker_wait_s=arguments.worker_wait,
        )
    print("metavox: " + "; ".join(f"{name} {outcome}" for name, outcome in outcomes.items()), flush=True)


if __name__ == "__main__":
    main()
