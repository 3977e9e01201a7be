"""Switch off the usage reports of all libraries."""

import os

TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def disable_telemetry() -> None:
    """Switch off usage reports for this process and its children, unless the user has set the variables.

    Call this before importing the libraries, because some read the environment only on import.
    """
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
