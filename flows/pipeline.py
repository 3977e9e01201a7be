"""The pipeline: every stage of dvc.yaml through DVC, with retries, time limits and gates.

    python -m flows.pipeline [--stage NAME] [--wait SECONDS]

It needs no Prefect server: without PREFECT_API_URL it starts one for as long as it runs.
"""

import argparse
from pathlib import Path

from prefect import flow

from flows.command import add_shared_options, ends_in_one_line, start_prefect
from flows.project import read_stages, up_to
from flows.running import WAIT_S, run_stages


@flow(name="pipeline", validate_parameters=True)
def pipeline(project: str = ".", wait_s: float = WAIT_S, workers: bool = False) -> dict[str, str]:
    """Bring every stage up to date; `workers` sends the stages of other pools to those pools' workers."""
    folder = Path(project).resolve()
    return run_stages(folder, read_stages(folder), wait_s, workers=workers)


def main() -> None:
    """`python -m flows.pipeline`."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Bring stages up to date.")
    parser.add_argument("--stage", metavar="NAME", help="only this stage and what it needs")
    add_shared_options(parser)
    parser.add_argument("--workers", action="store_true", help="use the workers of other pools")
    arguments = parser.parse_args()
    ends_in_one_line(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    project = arguments.project.resolve()
    stages = read_stages(project)
    if arguments.stage:
        up_to(stages, arguments.stage)
    start_prefect(project)
    wait_s = WAIT_S if arguments.wait is None else arguments.wait
    if arguments.stage:
        from flows.stages import stage_flow  # makes a flow of every stage, which only this needs

        outcomes = stage_flow(arguments.stage)(project=str(project), wait_s=wait_s)
    else:
        outcomes = pipeline(project=str(project), wait_s=wait_s, workers=arguments.workers)
    print("metavox: " + "; ".join(f"{name} {outcome}" for name, outcome in outcomes.items()), flush=True)


if __name__ == "__main__":
    main()
