"""The gate between recorded and trusted: Great Expectations decides, row by row and for the whole set.

A row that fails goes to the quarantine with every reason; a fault of the whole set fails the verdict, a warning
is only told. The only part of the project that uses Great Expectations.
"""

from metavox.quality.suites import REQUIRED, SPLITS
from metavox.quality.verdict import Fault, Verdict, judge, judge_rows, judge_set

__all__ = ["REQUIRED", "SPLITS", "Fault", "Verdict", "judge", "judge_rows", "judge_set"]
