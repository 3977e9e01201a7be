"""A trial of a search: an experiment of DVC in a clone of the checkout, and its metric.

`dvc exp run --temp` and `--queue` stash and reset the checkout itself for every experiment, so a kill at that moment leaves
it with changed parameters and off its branch. A clone can be killed at any time. It shares the checkout's cache of DVC,
so stages that the parameters do not touch are not run again, and the experiment is pushed into the checkout's git.
"""

import configparser
import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.gates import lookup, scalars
from flows.git import git
from flows.project import Stage
from flows.repro import Checkout, Log, StageFailed, run_experiment
from metavox.errors import UserError
from metavox.search.space import Value


@dataclass(frozen=True)
class Metric:
    """A number in a metrics file, written PATH:KEY with a dotted key."""

    path: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "Metric":
        path, _, key = text.partition(":")
        if not path or not key:
            raise UserError(
                f"{text}: not a metric; expected FILE:KEY, such as artifacts/metrics/pretrain.json:dev_loss"
            )
        return cls(path, key)

    def read(self, project: Path) -> float:
        """Its value in a checkout. Raises UserError if it is no number there."""
        try:
            values = json.loads((project / self.path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: cannot be read as metrics ({error})") from error
        value = lookup(values, self.key)
        if not _is_number(value):
            numbers = [name for name, item in scalars(values).items() if _is_number(item)]
            raise UserError(f"{self}: no such number; expected one of {', '.join(numbers) or '(none)'}")
        return float(value)

    def __str__(self) -> str:
        return f"{self.path}:{self.key}"


@dataclass(frozen=True)
class Trials:
    """What the trials of a search share: the commit that they change, what they run and measure, the checkout's cache of
    DVC, the descriptor of the search's lock, and what stops them."""

    project: Path
    commit: str
    stage: Stage
    metric: Metric
    timeout_s: float
    cache: str
    lock: int
    stop: threading.Event

    def run(self, clone: Path, name: str, values: Mapping[str, Value], log: Log) -> float:
        """Run one trial in the folder `clone`, made if it is missing, as the experiment `name`; returns its metric.

        Raises UserError or StageFailed with one line if it fails.
        """
        if not clone.is_dir():
            self._make(clone)
        _git(clone, "checkout", "--quiet", "--force", "--detach", self.commit)
        _git(clone, "clean", "--quiet", "--force", "-d")
        # The code is that of the commit, whatever changes meanwhile; DVC's notes about a clone go when the clones go.
        environment = {"PYTHONPATH": str(clone / "src"), "DVC_SITE_CACHE_DIR": str(clone.parent / "dvc")}
        checkout = Checkout(clone, self.lock, environment, self.stop)
        run_experiment(checkout, self.stage, name, values, log, self.timeout_s)
        value = self.metric.read(clone)
        ref = f"refs/exps/{self.commit[:2]}/{self.commit[2:]}/{name}"
        _git(clone, "push", "--quiet", "--force", "origin", f"{ref}:{ref}")
        return value

    def _make(self, clone: Path) -> None:
        clone.parent.mkdir(parents=True, exist_ok=True)
        _git(self.project, "clone", "--quiet", "--shared", "--no-checkout", str(self.project), str(clone))
        _git(clone, "checkout", "--quiet", "--detach", self.commit)
        config, local = configparser.RawConfigParser(), Path(".dvc/config.local")
        config.read(self.project / local, encoding="utf-8")
        if not config.has_section("cache"):
            config.add_section("cache")
        config.set("cache", "dir", self.cache)
        with (clone / local).open("w", encoding="utf-8") as file:
            config.write(file)


def _git(folder: Path, *arguments: str) -> None:
    done = git(folder, *arguments)
    if done.returncode:
        raise StageFailed(f"git {arguments[0]}: {' '.join(done.stderr.split())}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
