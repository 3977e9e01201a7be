"""Runs Great Expectations over one table: which checks fail, and for which rows."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
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
    for check in checks:
        check.expectation.meta = {"check": check.name}
    batch = _tables().get_batch({"dataframe": table})
    by_name = {check.name: check for check in checks}
    report = _validate(batch, suite, checks, "BASIC")
    # Only the checks that fail are worth the search for their bad rows, which takes half of the time.
    if failing := [by_name[_name(result)] for result in report.results if not result.success]:
        detailed = {_name(result): result for result in _validate(batch, suite, failing, "COMPLETE").results}
        report.results = [detailed.get(_name(result), result) for result in report.results]
    batches = batch.data.execution_engine.batch_manager  # keeps the table otherwise, which can be large
    batches.batch_data_cache.clear()
    batches.reset_batch_cache()
    failed = {}
    for result in report.results:
        check = by_name[_name(result)]
        if not result.success and "raised_exception" not in result.exception_info:
            raise RuntimeError(f"{check.name}: Great Expectations could not run it: {result.exception_info}")
        if not result.success:
            bad = table.loc[result.result.get("unexpected_index_list") or []]
            failed[check.name] = FailedCheck(check, bad, result.result.get("observed_value"))
        # These lists can be as long as the table, and the documentation does not need them.
        for key in ("unexpected_list", "unexpected_index_list"):
            result.result.pop(key, None)
    return [failed[check.name] for check in checks if check.name in failed], report


def _validate(batch: Any, suite: str, checks: list[Check], result_format: str) -> Any:
    """Great Expectations' result for the checks, in its `result_format`."""
    import great_expectations as gx

    expectations = gx.ExpectationSuite(name=suite, expectations=[check.expectation for check in checks])
    options = {
        "result_format": result_format,
        "partial_unexpected_count": MAX_EXAMPLES,
        "return_unexpected_index_query": False,
    }
    return batch.validate(expectations, result_format=options)


def _name(result: Any) -> str:
    """The name of the check that gave the result."""
    return str((getattr(result.expectation_config, "meta", None) or {})["check"])


def expectations() -> Any:
    """The module of expectations, imported late because it takes seconds, with its logging and analytics off."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations.expectations as gxe

    return gxe


@cache
def _tables() -> Any:
    """Great Expectations' source of tables, made once because that takes as long as two checks."""
    expectations()
    import great_expectations as gx
    from great_expectations.data_context.types import base

    config = base.DataContextConfig(
        # No documentation site: every context would create a temporary folder for it.
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("all")
