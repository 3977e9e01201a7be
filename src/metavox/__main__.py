"""The entry point of the console script and of `python -m metavox`."""

import io
import os
import sys

from metavox import threads
from metavox.errors import UserError


def main() -> None:
    """Set the thread limits before numpy is imported, because it reads the environment only once; then run the command."""
    use_utf8_file_names()
    escape_unprintable_output()
    try:
        threads.begin()
    except UserError as error:
        sys.exit(f"metavox: {error}")
    from metavox.cli.main import main as run

    run()


def use_utf8_file_names() -> None:
    """Restart in Python's UTF-8 mode if the locale, such as C, cannot represent every file name.

    Output stays in the terminal's encoding.
    """
    if sys.getfilesystemencoding().lower() != "utf-8":
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)


def escape_unprintable_output() -> None:
    """Print escapes such as `\\xf1` for characters outside the terminal's encoding and for file names that are not UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
