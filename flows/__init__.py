"""The control plane: when and where a stage runs."""

import os

# Prefect gives the server that it starts for a flow 20 s, which a busy machine exceeds.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
