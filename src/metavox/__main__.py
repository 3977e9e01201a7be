"""The console script, and `python -m metavox`."""

import sys

from metavox import threads
from metavox.errors import UserError


def main() -> None:
    """Decide on threads before anything imports numpy, which reads the environment only then."""
    try:
        threads.begin()
    except UserError as error:
        sys.exit(f"metavox: {error}")
    from metavox.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
