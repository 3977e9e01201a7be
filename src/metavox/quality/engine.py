"""Runs Great Expectations over one table: which checks fail, and for which rows."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

MAX_EXAMPLES = 5  # bad values that the documentation shows for one check


@dataclass(frozen=True)
class Check:
    """One expectation. `explain` turns a bad row, the table of bad rows, or an observed value into a message."""

    name: str
    expectation: Any
    explain: Callable[[Any], str]

    @property
    def is_warning(self) -> bool:
        return str(self.expectation.severity.value) == "warning"


@dataclass(frozen=True)
class FailedCheck:
    """A check that failed, with its bad rows; a check of the whole table has none."""

    check: Check
    bad: pd.DataFrame
    observed: Any = None  # the value that broke the limit, for checks of a single value


def failed_checks(table: pd.DataFrame, suite: str, checks: list[Check]) -> tuple[list[FailedCheck], Any]:
    """The checks that fail, in the order of `checks`, and Great Expectations' result for its documentation.

    The index of the table must be unique, because it identifies the bad rows. Raises RuntimeError for a check that
    Great Expectations could not run.
    """
    import great_expectations as gx

    asset = _context().data_sources.add_pandas("manifest").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    by_name = {check.name: check for check in checks}
    for check in checks:
        check.expectation.meta = {"check": check.name}
    expectations = gx.ExpectationSuite(name=suite, expectations=[check.expectation for check in checks])
    result_format = {
        "result_format": "COMPLETE",
        "partial_unexpected_count": MAX_EXAMPLES,
        "return_unexpected_index_query": False,
    }
    report = batch.validate(expectations, result_format=result_format)
    failed = {}
    for result in report.results:
        check = by_name[(getattr(result.expectation_config, "meta", None) or {})["check"]]
        if not result.success and "raised_exception" not in result.exception_info:
            raise RuntimeError(f"{check.name}: Great Expectations could not run it: {result.exception_info}")
        if not result.success:
            bad = table.loc[result.result.get("unexpected_index_list") or []]
            failed[check.name] = FailedCheck(check, bad, result.result.get("observed_value"))
        # These lists can be as long as the table, and the documentation does not need them.
        for key in ("unexpected_list", "unexpected_index_list"):
            result.result.pop(key, None)
    return [failed[check.name] for check in checks if check.name in failed], report


def expectations() -> Any:
    """The module of expectations, imported late because it takes seconds, with its logging and analytics off."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations.expectations as gxe

    return gxe


def _context() -> Any:
    expectations()
    import great_expectations as gx
    from great_expectations.data_context.types import base

    config = base.DataContextConfig(
        # No documentation site: every context would create a temporary folder for it.
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)
