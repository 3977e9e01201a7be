"""`python -m metavox`."""

from metavox.cli.main import main

main()
