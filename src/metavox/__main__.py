"""The console script, and `python -m metavox`."""

import io
import os
import sys

from metavox import threads
from metavox.errors import UserError


def main() -> None:
    """Decide on threads before anything imports numpy, which reads the environment only then."""
    read_names_as_utf8()
    escape_what_cannot_be_shown()
    try:
        threads.begin()
    except UserError as error:
        sys.exit(f"metavox: {error}")
    from metavox.cli.main import main as run

    run()


def read_names_as_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale, such as C, cannot name every file.

    What is written to the terminal stays in the terminal's encoding.
    """
    if sys.getfilesystemencoding().lower() != "utf-8":
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)


def escape_what_cannot_be_shown() -> None:
    """Let the terminal show `\\xf1` for a letter that its encoding lacks, and for bytes of a file name that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
