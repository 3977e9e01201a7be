"""Search over parameters of the pipeline with Optuna; each trial is an experiment of DVC, run in a clone of the commit.

    python -m flows.search SPACE.yaml --metric artifacts/metrics/pretrain.json:dev_loss [--trials 20] [--parallel 2]

The checkout must be committed, and is only read. Finished trials are kept: the same command continues a search that was
stopped.
"""

import argparse
import json
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed, wait

from flows.command import add_shared_options, run_command, start_prefect
from flows.git import committed
from flows.lock import only_writer
from flows.project import Stage, read_stages, up_to
from flows.repro import StageFailed
from flows.tasks import WAIT_S, run_name
from flows.trials import Metric, Trials
from metavox.errors import UserError
from metavox.params import Count, load_params
from metavox.promotion.dvc_cache import cache_folder
from metavox.search.space import Space, Value, read_space
from metavox.search.study import Asked, Direction, Study, StudySpec, open_study

FOLDER = Path(".metavox/search")
LOCK, CLONES = "flow.lock", "clones"
HOPELESS = 3  # failed trials before any has succeeded end the search


@dataclass(frozen=True)
class Plan:
    """A search that has been checked, before anything runs."""

    project: Path
    commit: str
    name: str
    stage: Stage
    timeout_s: float
    metric: Metric
    spec: StudySpec
    present: Mapping[str, Value]

    @property
    def folder(self) -> Path:
        return self.project / FOLDER / self.name

    def trials(self, lock: int, stop: threading.Event) -> Trials:
        """The trials of this search while it holds its lock."""
        cache = str(cache_folder(self.project).resolve())
        return Trials(self.project, self.commit, self.stage, self.metric, self.timeout_s, cache, lock, stop)

    def experiment(self, asked: Asked) -> str:
        return f"{self.name}-{asked.original}"


def plan_search(
    project: Path, space: Path, metric: str, direction: Direction, stage: str | None, name: str | None
) -> Plan:
    """Check a search. Raises UserError for a parameter, metric, stage or name that it cannot use, and for a checkout with
    uncommitted changes."""
    commit = committed(project)
    stages, wanted = read_stages(project), Metric.parse(metric)
    target, needed = stages_of(stages, wanted, stage)
    if (project / wanted.path).is_file():
        wanted.read(project)
    params = load_params(project / "params.yaml")
    dimensions = read_space(space, params)
    for parameter in dimensions:
        if not any(each.reads(parameter) for each in needed):
            raise UserError(
                f"{parameter}: no stage up to {target.name} depends on it, so it cannot change {wanted}"
            )
    name = name or f"{target.name}-{commit[:7]}"
    if (
        not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name)
        or name.endswith((".", ".lock"))
        or ".." in name
    ):
        raise UserError(f"--name {name}: expected letters, digits, '_', '-' and '.', such as {target.name}-1")
    return Plan(
        project,
        commit,
        name,
        target,
        sum(each.timeout_s for each in needed),
        wanted,
        StudySpec(dimensions, direction, json.dumps([commit, target.name, str(wanted), direction])),
        _present(params.model_dump(by_alias=True), dimensions),
    )


def stages_of(stages: list[Stage], metric: Metric, name: str | None) -> tuple[Stage, list[Stage]]:
    """The stage to run, by default the one that writes the metric, and it with those that it needs."""
    writers = {path: stage for stage in stages for path in stage.metrics}
    if (writer := writers.get(metric.path)) is None:
        raise UserError(
            f"{metric.path}: no stage of dvc.yaml has this metrics file; expected one of {', '.join(writers)}"
        )
    if writer.test_speakers:
        raise UserError(
            f"{metric}: {writer.name} measures on test speakers, who decide nothing; choose a metric of development "
            "speakers, such as artifacts/metrics/metatrain.json:dev_accuracy.meta.mean, or run `metavox search speakers`"
        )
    needed = up_to(stages, name or writer.name)
    if writer not in needed:
        raise UserError(f"--stage {name}: does not need {writer.name}, which writes {metric.path}")
    return needed[-1], needed


def _present(params: Mapping[str, Any], space: Space) -> dict[str, Value]:
    return {name: params[name.split(".")[0]][name.partition(".")[2]] for name in space}


@flow(name="search", flow_run_name=run_name("search"), validate_parameters=True)
def search(
    space: str,
    metric: str,
    direction: Direction = "minimize",
    trials: Count = 20,
    parallel: Count = 1,
    stage: str | None = None,
    name: str | None = None,
    seed: int = 0,
    project: str = ".",
    wait_s: float = WAIT_S,
) -> dict[str, Any]:
    """Search for the parameters with the best metric; each trial becomes an experiment of DVC.

    Args:
        space: The YAML file of the space, such as `adapt.steps: {low: 5, high: 80}`.
        metric: A number in a metrics file, as FILE:KEY.
        direction: Whether a low or a high value is better.
        trials: How many trials the search has, those of earlier runs included.
        parallel: How many of them run at a time.
        stage: The last stage that a trial runs; by default the one that writes the metric.
        name: The study; by default the stage and the commit. Experiments are NAME-0, NAME-1 and so on.
        seed: The sampler's seed.
        project: The checkout, a git repository without uncommitted changes.
        wait_s: How long to wait for another search of the same name, in seconds.
    """
    plan = plan_search(Path(project).resolve(), Path(space), metric, direction, stage, name)
    logger = get_run_logger()
    command = shlex.join(sys.orig_argv[1:]) or "a flow"
    clones = plan.folder / CLONES
    with only_writer(
        plan.project, command, wait_s, logger.warning, plan.folder.relative_to(plan.project) / LOCK
    ) as lock:
        shutil.rmtree(clones, ignore_errors=True)  # of a search that was killed
        try:
            with open_study(plan.folder, plan.spec, seed) as study:
                study.begin_with(plan.present)
                table = run_trials(plan, study, trials, [clones / str(n) for n in range(parallel)], lock)
        finally:
            shutil.rmtree(clones, ignore_errors=True)
    return summary(plan, table)


def run_trials(plan: Plan, study: Study, trials: int, clones: list[Path], lock: int) -> pd.DataFrame:
    """Ask, run and tell until the study has enough trials, one at a time in each folder of `clones`; returns its table.

    The first successful trial runs alone, so that the stages which the parameters do not touch run once. Raises UserError
    if the first trials all fail. Whatever ends this, no trial is left running.
    """
    stop, failures = threading.Event(), 0
    shared = plan.trials(lock, stop)
    running: dict[PrefectFuture[float], tuple[Asked, Path]] = {}
    try:
        while True:
            while len(running) < (len(clones) if study.succeeded else 1) and (asked := study.ask(trials)):
                used = [clone for _, clone in running.values()]
                clone = next(clone for clone in clones if clone not in used)
                experiment = plan.experiment(asked)
                asked.trial.set_user_attr("experiment", experiment)
                future = run_trial.submit(shared, clone, experiment, asked.values)
                running[future] = asked, clone
            if not running:
                break
            future = next(as_completed(list(running)))
            asked, _ = running.pop(future)
            reason = _tell(study, asked, future)
            show(plan, study.write())
            if reason and not study.succeeded and (failures := failures + 1) == HOPELESS:
                raise UserError(f"{plan.name}: the first {failures} trials failed; the last one: {reason}")
    except BaseException:
        stop.set()
        wait(list(running))
        raise
    return study.write()


@task(name="trial", task_run_name="{experiment}", persist_result=False, cache_policy=NO_CACHE)
def run_trial(trials: Trials, clone: Path, experiment: str, values: dict[str, Value]) -> float:
    """Run one trial and return its metric."""
    logger = get_run_logger()
    logger.info("%s: %s", experiment, values)
    value = trials.run(clone, experiment, values, logger.info)
    logger.info("%s: %s = %g", experiment, trials.metric, value)
    return value


def _tell(study: Study, asked: Asked, future: "PrefectFuture[float]") -> str:
    """Tell the study how a trial ended; returns the reason if it failed."""
    try:
        study.tell(asked, future.result())
    except (StageFailed, UserError) as error:
        study.tell_failed(asked, str(error))
        return str(error)
    return ""


def show(plan: Plan, table: pd.DataFrame) -> None:
    """Publish the trials on Prefect's pages."""
    columns = ["experiment", "state", "value", *plan.spec.space, "failed"]
    rows = table.reindex(columns=columns).astype(object)
    records: Any = rows.where(rows.notna(), "").to_dict(orient="records")
    create_table_artifact(
        records,
        key="trials",
        description=f"{plan.name}: {plan.metric}, {plan.spec.direction}; the best first",
    )


def summary(plan: Plan, table: pd.DataFrame) -> dict[str, Any]:
    """The best trial, and how many there were."""
    best = table.iloc[0]
    told = table[table["state"] == "complete"]
    failed = table["failed"].notna().sum() if "failed" in table else 0
    return {
        "name": plan.name,
        "trials": len(told),
        "failed": int(failed),
        "best": best["experiment"],
        "value": float(best["value"]),
        "values": {name: best[name] for name in plan.spec.space},
    }


def main() -> None:
    """`python -m flows.search SPACE.yaml --metric FILE:KEY`."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.search",
        description="Search over parameters; each trial is an experiment of DVC.",
    )
    parser.add_argument("space", type=Path, metavar="SPACE.yaml", help="the parameters and their values")
    parser.add_argument("--metric", metavar="FILE:KEY", required=True, help="a number in a metrics file")
    parser.add_argument("--direction", choices=get_args(Direction), default="minimize")
    parser.add_argument("--trials", metavar="N", type=_count, default=20, help="of the whole search")
    parser.add_argument("--parallel", metavar="N", type=_count, default=1, help="trials at a time")
    parser.add_argument("--stage", metavar="NAME", help="the last stage of a trial (default: the metric's)")
    parser.add_argument("--name", help="of the study and its experiments (default: the stage and the commit)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="the sampler's seed")
    add_shared_options(parser)
    arguments = parser.parse_args()
    run_command(lambda: _run(arguments))


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1 up")
    return int(text)


def _run(arguments: argparse.Namespace) -> None:
    project = arguments.project.resolve()
    options = (arguments.metric, arguments.direction)
    plan_search(project, arguments.space, *options, arguments.stage, arguments.name)
    start_prefect(project)
    result = search(
        str(arguments.space.resolve()),
        *options,
        arguments.trials,
        arguments.parallel,
        arguments.stage,
        arguments.name,
        arguments.seed,
        str(project),
        WAIT_S if arguments.wait is None else arguments.wait,
    )
    values = ", ".join(f"{name} = {value}" for name, value in result["values"].items())
    print(
        f"metavox: {result['name']}: {result['trials']} trials, {result['failed']} failed; the best is {result['best']}: "
        f"{arguments.metric} = {result['value']:g} with {values}\n"
        f"dvc exp show --only-changed     # the trials side by side\n"
        f"dvc exp apply {result['best']}     # its parameters and results, into this checkout",
        flush=True,
    )


if __name__ == "__main__":
    main()
