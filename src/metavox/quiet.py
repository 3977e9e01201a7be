"""No metavox process reports to anybody: one place that says so to every library that would."""

import os

NO_REPORTS = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def hush() -> None:
    """Switch usage reports off for this process and its children, except where the user chose otherwise.

    Call it before the libraries are imported: some read the environment only then.
    """
    for name, value in NO_REPORTS.items():
        os.environ.setdefault(name, value)
