"""The quality gate: Great Expectations decides which recordings the pipeline may learn from.

A row that fails a check goes to quarantine with every reason. A failed check of the whole set fails the verdict; a
warning is only reported. No other package uses Great Expectations.
"""

from metavox.quality.suites import REQUIRED, SPLITS
from metavox.quality.verdict import Fault, Verdict, judge, judge_rows, judge_set

__all__ = ["REQUIRED", "SPLITS", "Fault", "Verdict", "judge", "judge_rows", "judge_set"]
