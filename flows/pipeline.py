"""The pipeline: every stage of dvc.yaml through DVC, with retries, time limits and gates.

    python -m flows.pipeline [--stage NAME] [--wait SECONDS]

It needs no Prefect server: without PREFECT_API_URL it starts one for as long as it runs.
"""

from pathlib import Path

from prefect import flow

from flows.project import read_stages
from flows.running import WAIT_S, run_stages


@flow(name="pipeline", validate_parameters=True)
def pipeline(project: str = ".", wait_s: float = WAIT_S, workers: bool = False) -> dict[str, str]:
    """Bring every stage up to date; `workers` sends the stages of other pools to those pools' workers."""
    folder = Path(project).resolve()
    return run_stages(folder, read_stages(folder), wait_s, workers=workers)


if __name__ == "__main__":
    from flows.command import main

    main()
