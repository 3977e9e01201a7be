"""A flow for each stage of dvc.yaml, so that a single stage can be triggered or scheduled.

`prefect.yaml` deploys them as `flows/stages.py:NAME`.
"""

from pathlib import Path
from typing import Any

from prefect import Flow, flow

from flows.project import read_stages, up_to
from flows.tasks import WAIT_S, run_stages
from flows.workers import check_out


def stage_flow(name: str) -> Flow[Any, dict[str, str]]:
    """A flow that brings the stage `name` and the stages that it needs up to date."""

    def run(
        project: str = ".", wait_s: float = WAIT_S, share: bool = False, commit: str | None = None
    ) -> dict[str, str]:
        folder = Path(project).resolve()
        check_out(folder, commit)
        return run_stages(folder, up_to(read_stages(folder), name), wait_s, share=share)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"Bring the stage {name} and the stages that it needs up to date."
    as_flow: Any = flow(name=name, validate_parameters=True)
    return as_flow(run)


globals().update({stage.name: stage_flow(stage.name) for stage in read_stages(Path(__file__).parents[1])})
