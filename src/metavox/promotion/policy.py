"""`policy.yaml`: when recordings are refused, when a challenger is taught, and when it replaces the champion."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from metavox.errors import UserError
from metavox.params import read_values

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Confidence = Annotated[float, Field(ge=0.5, lt=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BatchPolicy(_Section):
    """A batch is refused if the champion is sure of another text than its label too often."""

    max_contradicted: Share = 0.3  # of the recordings, at the lower end of the 95% interval
    sure: Share = 0.8  # the champion's confidence from which it counts


class ChangePolicy(_Section):
    """A challenger is taught if the champion errs on the batch, or if the batch differs from what it learned from."""

    min_error: Share = 0.0  # learn if the champion's error rate on the batch is above this
    drifted: Literal["learn", "retrain"] = "learn"  # retrain: run the pipeline on the new recordings first


class LearnPolicy(_Section):
    """Recordings wait until there are enough of them to teach a challenger."""

    min_recordings: Annotated[int, Field(ge=1)] = 20
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3  # share of each batch that only judges
    kind: Literal["auto", "words", "utterances"] = "auto"


class PromotePolicy(_Section):
    """The challenger must be better on the newest recordings, and on no other worse than this."""

    sure: Confidence = 0.9  # probability that it is better on the newest recordings
    max_worse: Share = 0.02  # error rate on the fixed recordings
    max_slice_worse: Share = 0.1  # error rate of any speaker, environment or language with enough recordings
    min_slice: Annotated[int, Field(ge=1)] = 10
    # Share of requests that a better challenger answers until the next batch confirms it; 0: it is promoted at once.
    canary: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class Policy(_Section):
    batch: BatchPolicy = BatchPolicy()
    change: ChangePolicy = ChangePolicy()
    learn: LearnPolicy = LearnPolicy()
    promote: PromotePolicy = PromotePolicy()


def load_policy(path: Path) -> Policy:
    """Read and check a policy. Raises UserError with one line that names the first wrong key and what is allowed."""
    try:
        return Policy.model_validate(read_values(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {key}: {first['msg']}; got {first['input']!r}") from error
