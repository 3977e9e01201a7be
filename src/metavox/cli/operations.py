"""`metavox operations`: a page about what ran, what it took, and how good the champion is."""

from pathlib import Path
from typing import Annotated

import typer

from metavox.cli.options import output
from metavox.errors import UserError

OUT = Path(".metavox/operations.html")


def operations(
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, callback=output, help=f"The page; by default {OUT} in the project."),
    ] = None,
    requests: Annotated[
        Path | None, typer.Option(dir_okay=False, help="The file of `metavox serve --request-log`.")
    ] = None,
    price: Annotated[
        list[str], typer.Option(metavar="POOL=PRICE", help="Of an hour, in any currency; may be repeated.")
    ] = [],  # noqa: B006
    project: Annotated[Path, typer.Option(file_okay=False, help="The checkout.")] = Path(),
) -> None:
    """Write a page of the runs, the time and cost of stages, the batches of the loop and the champion. Needs no server."""
    from metavox.files import written_aside
    from metavox.journal import RUNS, lines
    from metavox.promotion import history
    from metavox.reports.operations import Operations, operations_page

    prices = dict(map(_price, price))
    if requests is not None and not requests.is_file():
        raise UserError(f"--requests {requests}: no such file; `metavox serve --request-log FILE` writes it")
    project = project.resolve()
    logged = lines(requests) if requests else []
    found = Operations(project.name, lines(project / RUNS), history.read(project), logged, prices)
    with written_aside(out or project / OUT) as aside:
        aside.write_text(operations_page(found), encoding="utf-8")
    typer.echo(f"{out or project / OUT}")


def _price(text: str) -> tuple[str, float]:
    pool, _, value = text.partition("=")
    try:
        return pool, float(value)
    except ValueError:
        raise UserError(f"--price {text}: expected POOL=PRICE, such as gpu=2.5") from None
