"""The operations page: what ran, what it took, and how good the champion is.

    python -m flows.report [--out operations.html] [--requests FILE] [--price gpu=2.5 --price cpu=0.1]

It reads `.metavox/runs.jsonl` and `history.csv` of the project, and needs no server.
"""

import argparse
import json
from pathlib import Path

from flows import journal
from flows.command import run_command
from metavox.errors import UserError
from metavox.files import written_aside
from metavox.promotion import history
from metavox.reports.operations import Operations, operations_page

OUT = Path(".metavox/operations.html")


def write_report(project: Path, out: Path, requests: Path | None, prices: dict[str, float]) -> None:
    """Write the page. `requests` is the log of `metavox serve --request-log`; prices are per hour, by pool."""
    logged = []
    if requests is not None:
        if not requests.is_file():
            raise UserError(
                f"--requests {requests}: no such file; `metavox serve --request-log FILE` writes it"
            )
        logged = [json.loads(line) for line in requests.read_text(encoding="utf-8").splitlines() if line]
    found = Operations(project.name, journal.lines(project), history.read(project), logged, prices)
    with written_aside(out) as aside:
        aside.write_text(operations_page(found), encoding="utf-8")


def price(text: str) -> tuple[str, float]:
    """`gpu=2.5` as a pool and a price per hour."""
    pool, _, value = text.partition("=")
    try:
        return pool, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected POOL=PRICE, such as gpu=2.5") from None


def main() -> None:
    """`python -m flows.report`."""
    parser = argparse.ArgumentParser(prog="python -m flows.report", description="Write the operations page.")
    parser.add_argument("--out", metavar="FILE", type=Path, help=f"the page (default: {OUT} in the project)")
    parser.add_argument(
        "--requests", metavar="FILE", type=Path, help="the log of `metavox serve --request-log`"
    )
    parser.add_argument(
        "--price",
        metavar="POOL=PRICE",
        type=price,
        action="append",
        default=[],
        help="of an hour, in any currency",
    )
    parser.add_argument("--project", metavar="FOLDER", type=Path, default=Path())
    arguments = parser.parse_args()
    project = arguments.project.resolve()
    out = arguments.out or project / OUT

    def work() -> None:
        write_report(project, out, arguments.requests, dict(arguments.price))
        print(f"metavox: {out}")

    run_command(work)


if __name__ == "__main__":
    main()
