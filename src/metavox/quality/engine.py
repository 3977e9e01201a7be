"""Great Expectations over one table: which checks do not hold, and for which rows."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

SAMPLE = 5  # bad values that the documentation shows of a check


@dataclass(frozen=True)
class Check:
    """One expectation, and how to tell a person what did not hold: of a row, or of the bad rows."""

    name: str
    expectation: Any
    tell: Callable[[Any], str]

    @property
    def warns(self) -> bool:
        return str(self.expectation.severity.value) == "warning"


@dataclass(frozen=True)
class Unmet:
    """A check that does not hold, with its bad rows: none where it is about the whole table."""

    check: Check
    bad: pd.DataFrame
    observed: Any = None  # the value that did not fit, where the check is about one


def unmet(table: pd.DataFrame, suite: str, checks: list[Check]) -> tuple[list[Unmet], Any]:
    """The checks that do not hold, in their order; and Great Expectations' own result, for its documentation.

    The index of the table must be unique: bad rows are found by it.
    """
    import great_expectations as gx

    asset = _context().data_sources.add_pandas("manifest").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    named = {check.name: check for check in checks}
    for check in checks:
        check.expectation.meta = {"check": check.name}
    expectations = gx.ExpectationSuite(name=suite, expectations=[check.expectation for check in checks])
    wanted = {
        "result_format": "COMPLETE",
        "partial_unexpected_count": SAMPLE,
        "return_unexpected_index_query": False,
    }
    report = batch.validate(expectations, result_format=wanted)
    found = {}
    for result in report.results:
        check = named[(getattr(result.expectation_config, "meta", None) or {})["check"]]
        if not result.success and "raised_exception" not in result.exception_info:
            raise RuntimeError(f"{check.name}: could not be judged: {result.exception_info}")
        if not result.success:
            bad = table.loc[result.result.get("unexpected_index_list") or []]
            found[check.name] = Unmet(check, bad, result.result.get("observed_value"))
        for whole in (
            "unexpected_list",
            "unexpected_index_list",
        ):  # as long as the table when all of it is bad
            result.result.pop(whole, None)
    return [found[check.name] for check in checks if check.name in found], report


def expectations() -> Any:
    """Great Expectations takes seconds to import and would report home: only here, and silent."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations.expectations as gxe

    return gxe


def _context() -> Any:
    expectations()
    import great_expectations as gx
    from great_expectations.data_context.types import base

    config = base.DataContextConfig(
        # Without its documentation site, for which every context would make a temporary folder.
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)
